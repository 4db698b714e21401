//! Tokens: JWTs (RFC 7519, best practice RFC 8725) of one issuer, for one audience, signed with an
//! asymmetric algorithm from a list. `none` and the HMAC family cannot be put on that list.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header, get_current_timestamp};
use moka::sync::Cache;
use residency::{Actor, Place, SubjectId, Tenant};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::jwks::{Jwks, JwksSource, Key, KeySet};
use super::{Caller, Scopes, TokenFacts, keys};
use crate::error::Error;

/// Verified tokens kept, so that a signature is not checked again for each request.
const VERIFIED_MAX: u64 = 10_000;
/// How long a verified token is believed without another check of its signature.
const VERIFIED_FOR: Duration = Duration::from_secs(60);
/// Characters of a client's name that reach decisions.
const CLIENT_CHARS_MAX: usize = 64;

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// `iss`, exactly.
    pub issuer: String,
    /// `aud`, exactly one of the token's.
    pub audience: String,
    /// Where the keys are.
    pub jwks: JwksSource,
    /// The algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// Clock skew allowed for `exp` and `nbf`, seconds.
    pub leeway_s: u64,
    /// Which claims say what.
    pub claims: ClaimNames,
}

impl JwtSettings {
    /// Settings with the usual algorithms (ES256, RS256), 30 s of leeway and the default claim names.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, jwks: JwksSource) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            jwks,
            algorithms: vec![Algorithm::Es256, Algorithm::Rs256],
            leeway_s: 30,
            claims: ClaimNames::default(),
        }
    }
}

/// Which claims of a token say what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// Whom the token is about.
    pub subject: String,
    /// Scopes: one text with blanks between, or a list.
    pub scopes: String,
    /// Where that person resides: `DE` or `US-CA`.
    pub residence: String,
    /// The tenant that the token's bearer belongs to.
    pub tenant: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            subject: "sub".to_owned(),
            scopes: "scope".to_owned(),
            residence: "domicile_residence".to_owned(),
            tenant: "domicile_tenant".to_owned(),
        }
    }
}

/// A signature algorithm that may be accepted: the asymmetric ones, so that a public key can never be
/// mistaken for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// RSASSA-PKCS1-v1_5, SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    Rs512,
    /// RSASSA-PSS, SHA-256.
    Ps256,
    /// RSASSA-PSS, SHA-384.
    Ps384,
    /// RSASSA-PSS, SHA-512.
    Ps512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    /// The name in `alg` (RFC 7518, RFC 8037).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Finds an algorithm by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    const fn of_library(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as Library;
        match self {
            Self::Es256 => Library::ES256,
            Self::Es384 => Library::ES384,
            Self::Rs256 => Library::RS256,
            Self::Rs384 => Library::RS384,
            Self::Rs512 => Library::RS512,
            Self::Ps256 => Library::PS256,
            Self::Ps384 => Library::PS384,
            Self::Ps512 => Library::PS512,
            Self::EdDsa => Library::EdDSA,
        }
    }
}

/// Checks tokens.
pub(crate) struct Tokens {
    settings: JwtSettings,
    allowed: Vec<jsonwebtoken::Algorithm>,
    jwks: Arc<Jwks>,
    verified: Cache<[u8; 32], Verified>,
}

/// What a token came to when its signature was last checked.
#[derive(Clone)]
struct Verified {
    caller: Caller,
    expires_s: u64,
    generation: u64,
}

impl Tokens {
    pub(crate) fn new(settings: JwtSettings, jwks: Jwks) -> Self {
        let allowed = settings.algorithms.iter().map(|algorithm| algorithm.of_library()).collect();
        let verified = Cache::builder().max_capacity(VERIFIED_MAX).time_to_live(VERIFIED_FOR).build();
        Self { settings, allowed, jwks: Arc::new(jwks), verified }
    }

    /// The caller that a token makes of its bearer.
    ///
    /// # Errors
    /// [`Error::Credentials`] with the first reason against it, [`Error::IdentityUnavailable`] without keys.
    pub(crate) async fn verify(&self, token: &str) -> Result<Caller, Error> {
        let header = decode_header(token)
            .map_err(|_| Error::Credentials("it is neither an API key nor a JWT with a supported algorithm"))?;
        if !self.allowed.contains(&header.alg) {
            return Err(Error::Credentials("the token's algorithm is not accepted"));
        }
        if header.crit.is_some() {
            return Err(Error::Credentials("the token has critical headers"));
        }
        let set = self.jwks.current().await.ok_or(Error::IdentityUnavailable)?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.verified.get(&digest)
            && known.generation == set.generation
            && get_current_timestamp() < known.expires_s
        {
            return Ok(known.caller);
        }
        let id = header.kid.as_deref();
        let set = match set.find(id) {
            Some(_) => set,
            None => self.jwks.renewed().await.ok_or(Error::IdentityUnavailable)?,
        };
        let key = set.find(id).ok_or(Error::Credentials("the token's key is not the identity provider's"))?;
        let verified = self.check(token, header.alg, key, &set)?;
        self.verified.insert(digest, verified.clone());
        Ok(verified.caller)
    }

    fn check(
        &self,
        token: &str,
        algorithm: jsonwebtoken::Algorithm,
        key: &Key,
        set: &KeySet,
    ) -> Result<Verified, Error> {
        if key.algorithm.is_some_and(|only| only.to_string() != format!("{algorithm:?}")) {
            return Err(Error::Credentials("the token's key is for another algorithm"));
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.settings.leeway_s;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims: HashMap<String, Value> =
            decode(token, &key.decoding, &validation).map_err(|error| refusal(error.kind()))?.claims;
        let expires_s = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds since 1970, saturating")]
        let expires_s = (expires_s as u64).saturating_add(self.settings.leeway_s);
        Ok(Verified { caller: self.caller(&claims)?, expires_s, generation: set.generation })
    }

    fn caller(&self, claims: &HashMap<String, Value>) -> Result<Caller, Error> {
        let names = &self.settings.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let residence = match claims.get(&names.residence) {
            None | Some(Value::Null) => None,
            Some(Value::String(place)) => {
                Some(Place::new(place).map_err(|_| Error::Credentials("the token's residence is not a place"))?)
            }
            Some(_) => return Err(Error::Credentials("the token's residence is not a place")),
        };
        let tenant = match claims.get(&names.tenant) {
            None | Some(Value::Null) => None,
            Some(Value::String(tenant)) => {
                Some(Tenant::new(tenant).map_err(|_| Error::Credentials("the token's tenant is not a tenant's name"))?)
            }
            Some(_) => return Err(Error::Credentials("the token's tenant is not a tenant's name")),
        };
        let subject = text(&names.subject);
        // Who acts is the application; the person the token is about must not reach the log.
        let client = text("azp").or_else(|| text("client_id"));
        let actor = match client.filter(|client| sober(client)) {
            Some(client) => Actor::new(&format!("token:{client}")),
            None => Actor::new("token"),
        };
        Ok(Caller {
            actor,
            bucket: keys::bucket("token", &format!("{}\0{}", client.unwrap_or_default(), subject.unwrap_or_default())),
            scopes: scopes(claims.get(&names.scopes)),
            tenant,
            token: Some(Arc::new(TokenFacts {
                subject: subject.and_then(|text| SubjectId::new(text).ok()),
                residence,
            })),
        })
    }
}

/// Whether a client's name may stand in a log: the alphabet of names, and no address of a person.
fn sober(client: &str) -> bool {
    (1..=CLIENT_CHARS_MAX).contains(&client.len())
        && client.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/'))
}

fn scopes(claim: Option<&Value>) -> Scopes {
    match claim {
        Some(Value::String(text)) => Scopes::named(text.split_ascii_whitespace()),
        Some(Value::Array(list)) => Scopes::named(list.iter().filter_map(Value::as_str)),
        _ => Scopes::default(),
    }
}

fn refusal(kind: &ErrorKind) -> Error {
    Error::Credentials(match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is from another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks exp, iss or aud",
        ErrorKind::InvalidSignature => "the token's signature does not hold",
        _ => "the token cannot be verified",
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use api::Scope;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    /// A P-256 key for these tests alone.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDsplRVLUPU8zry9b
71h5PqniPglx4uK5dWwu6j5/PVWhRANCAAT40gms+D4C0eUHGSf61Jwn+grQZ4wy
NG9Mtc9K4DXysAQjn0QZ/bf9PMxL+besyhAFqxQ75rhE0B0Glbr/s+nj
-----END PRIVATE KEY-----";

    fn set(id: &str) -> String {
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
            "x": "-NIJrPg-AtHlBxkn-tScJ_oK0GeMMjRvTLXPSuA18rA", "y": "BCOfRBn9t_08zEv5t6zKEAWrFDvmuETQHQaVuv-z6eM"
        }]})
        .to_string()
    }

    struct Scene {
        tokens: Tokens,
        file: PathBuf,
        _folder: tempfile::TempDir,
    }

    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, set("k1")).unwrap();
        let source = JwksSource::File(file.clone());
        let settings = JwtSettings::new("https://login.example.com/", "https://data.example.com", source.clone());
        Scene { tokens: Tokens::new(settings, Jwks::new(source).unwrap()), file, _folder: folder }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://login.example.com/", "aud": "https://data.example.com", "sub": "anna",
            "exp": get_current_timestamp() + 600, "azp": "shop", "scope": "records:read records:write nonsense",
            "domicile_residence": "de"
        })
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut claims = claims();
        change(&mut claims);
        claims
    }

    fn signed_as(id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = id.map(str::to_owned);
        encode(&header, claims, &EncodingKey::from_ec_pem(PRIVATE.as_bytes()).unwrap()).unwrap()
    }

    fn signed(claims: &Value) -> String {
        signed_as(Some("k1"), claims)
    }

    async fn refused(scene: &Scene, token: &str) -> &'static str {
        match scene.tokens.verify(token).await {
            Err(Error::Credentials(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_token_makes_a_caller_with_the_scopes_and_the_residence_it_claims() {
        let scene = scene();
        let caller = scene.tokens.verify(&signed(&claims())).await.unwrap();
        assert_eq!(caller.actor.as_str(), "token:shop");
        assert!(caller.scopes.contains(Scope::RecordsWrite) && !caller.scopes.contains(Scope::AuditRead));
        let facts = caller.token.clone().unwrap();
        assert_eq!(facts.residence.unwrap().to_string(), "DE");
        assert!(caller.may_act_for(&SubjectId::new("anna").unwrap()).is_ok());
        assert!(matches!(caller.may_act_for(&SubjectId::new("bert").unwrap()), Err(Error::SubjectMismatch)));
        let service = with(|claims| claims["scope"] = json!(["records:read", "subjects:any"]));
        let caller = scene.tokens.verify(&signed(&service)).await.unwrap();
        assert!(caller.may_act_for(&SubjectId::new("bert").unwrap()).is_ok());
    }

    #[tokio::test]
    async fn the_person_of_a_token_is_not_its_actor() {
        let scene = scene();
        let no_client = with(|claims| drop(claims.as_object_mut().unwrap().remove("azp")));
        let caller = scene.tokens.verify(&signed(&no_client)).await.unwrap();
        assert_eq!(caller.actor.as_str(), "token");
        let odd = with(|claims| claims["azp"] = "anna@example.org".into());
        assert_eq!(scene.tokens.verify(&signed(&odd)).await.unwrap().actor.as_str(), "token");
    }

    #[tokio::test]
    async fn what_is_not_meant_for_us_or_not_now_is_refused() {
        let scene = scene();
        let now = get_current_timestamp();
        for (claims, why) in [
            (with(|c| c["exp"] = (now - 3_600).into()), "the token has expired"),
            (with(|c| c["nbf"] = (now + 3_600).into()), "the token is not valid yet"),
            (with(|c| c["iss"] = "https://other.example.com/".into()), "the token is from another issuer"),
            (with(|c| c["aud"] = "https://other.example.com".into()), "the token is for another audience"),
            (with(|c| drop(c.as_object_mut().unwrap().remove("exp"))), "the token lacks exp, iss or aud"),
            (with(|c| drop(c.as_object_mut().unwrap().remove("aud"))), "the token lacks exp, iss or aud"),
            (with(|c| drop(c.as_object_mut().unwrap().remove("iss"))), "the token lacks exp, iss or aud"),
            (with(|c| c["domicile_residence"] = "Germany".into()), "the token's residence is not a place"),
            (with(|c| c["domicile_residence"] = 49.into()), "the token's residence is not a place"),
            (with(|c| c["domicile_tenant"] = "a b".into()), "the token's tenant is not a tenant's name"),
        ] {
            assert_eq!(refused(&scene, &signed(&claims)).await, why);
        }
    }

    #[tokio::test]
    async fn a_token_cannot_choose_how_it_is_checked() {
        let scene = scene();
        let part = |value: &Value| {
            base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, value.to_string())
        };
        let none = format!("{}.{}.", part(&json!({"alg": "none", "kid": "k1"})), part(&claims()));
        refused(&scene, &none).await;
        // The public key as the secret of an HMAC: the classic confusion.
        let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some("k1".to_owned());
        let confused = encode(&header, &claims(), &EncodingKey::from_secret(set("k1").as_bytes())).unwrap();
        assert_eq!(refused(&scene, &confused).await, "the token's algorithm is not accepted");
        let good = signed(&claims());
        let (head, _) = good.split_at(good.len() - 4);
        refused(&scene, &format!("{head}AAAA")).await;
        let (_, tail) = good.split_once('.').unwrap();
        let other_head = part(&json!({"alg": "ES384", "kid": "k1"}));
        assert_eq!(refused(&scene, &format!("{other_head}.{tail}")).await, "the token's algorithm is not accepted");
        let critical = part(&json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]}));
        assert_eq!(refused(&scene, &format!("{critical}.{tail}")).await, "the token has critical headers");
        for text in ["", ".", "..", "a.b.c", "eyJ.eyJ.", &"x".repeat(5_000)] {
            refused(&scene, text).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_found_when_a_token_names_it_and_a_withdrawn_one_ends_with_the_set() {
        let scene = scene();
        let old = signed(&claims());
        scene.tokens.verify(&old).await.unwrap();
        std::fs::write(&scene.file, set("k2")).unwrap();
        // At once it would be a way to make us fetch without end.
        assert!(scene.tokens.verify(&signed_as(Some("k2"), &claims())).await.is_err());
        tokio::time::advance(Duration::from_secs(11)).await;
        scene.tokens.verify(&signed_as(Some("k2"), &claims())).await.unwrap();
        assert!(scene.tokens.verify(&old).await.is_err());
    }

    #[tokio::test]
    async fn without_keys_nobody_is_let_in_and_nobody_is_blamed() {
        let source = JwksSource::File("/nonexistent/jwks.json".into());
        let settings = JwtSettings::new("i", "a", source.clone());
        let tokens = Tokens::new(settings, Jwks::new(source).unwrap());
        assert!(matches!(tokens.verify(&signed(&claims())).await, Err(Error::IdentityUnavailable)));
    }
}
