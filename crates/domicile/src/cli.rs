//! The command line. Its help teaches: what each command is for, an example of each, what the exit
//! codes mean.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::DEFAULT_PATH;

/// Keeps people's data in the region where it is at home, and proves it.
#[derive(Debug, Parser)]
#[command(name = "domicile", version, max_term_width = 110, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Begin here:
  domicile demo                                 see it work, on throw-away databases
  domicile config check                         every mistake of config/domicile.toml at once
  domicile migrate                              bring the databases up to date
  domicile keys create billing --scopes records:read,records:write
  domicile serve                                run gateway, relays, forwarders and signers
  domicile audit verify pack.zip --key …        hold a log, or a part of one, against its public key

Exit codes:
  0  done, or nothing wrong
  1  a check found something wrong, or the deed failed
  2  the command line or the configuration is wrong; nothing was tried";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work on this machine: throw-away databases, brokers and a gateway, then a tour
    Demo(crate::demo::Args),
    /// Run the gateway, the relays and the forwarders of the regions served here
    #[command(after_help = SERVE_HELP)]
    Serve(Serve),
    /// Bring the databases up to date: the directory's and each served region's
    #[command(after_help = MIGRATE_HELP)]
    Migrate(Migrate),
    /// The region logs as proof: keys, verification, receipts
    #[command(subcommand, after_help = AUDIT_HELP)]
    Audit(Audit),
    /// Run a witness: remember the largest tree of each log, and cosign only what continues it
    #[command(after_help = WITNESS_HELP)]
    Witness(Witness),
    /// API keys of callers: create, list, revoke
    #[command(subcommand, after_help = KEYS_HELP)]
    Keys(Keys),
    /// The configuration: check it, show it, print its JSON Schema
    #[command(subcommand)]
    Config(Config),
    /// The residency policy: prove it, ask it
    #[command(subcommand)]
    Policy(Policy),
    /// The relays (region log -> Redpanda): how they are doing; send a part of a log again
    #[command(subcommand, after_help = RELAY_HELP)]
    Relay(Stream),
    /// The forwarders (region log -> Snowflake): how they are doing; hand over a part of a log again
    #[command(subcommand, after_help = FORWARDER_HELP)]
    Forwarder(Stream),
    /// The regions' Snowflake accounts: database, tables, roles and grants
    #[command(subcommand)]
    Snowflake(Snowflake),
    /// Ask a running process whether it is well: for container health checks
    #[command(after_help = HEALTH_HELP)]
    Health(Health),
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file; the environment (DOMICILE__GATEWAY__LISTEN=…) lies over it
    #[arg(long = "config", value_name = "FILE", env = "DOMICILE_CONFIG", default_value = DEFAULT_PATH)]
    pub path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub config: ConfigFile,
    /// What this process does; several with commas
    #[arg(long = "role", value_enum, value_delimiter = ',', default_value = "all")]
    pub roles: Vec<Role>,
}

const SERVE_HELP: &str = "\
Examples:
  domicile serve --config /etc/domicile/domicile.toml
  domicile serve --role gateway                 the API alone; relays run elsewhere
  domicile serve --role relay,forwarder         carry the region logs, no API
  DOMICILE__GATEWAY__LISTEN=0.0.0.0:8080 domicile serve

Signals:
  TERM, INT   stop accepting, finish what is in flight (gateway.limits.drain_s_max), flush, end
  HUP         read the policy again; a policy with a mistake is reported and the old one stays in force";

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything below
    All,
    /// The HTTP API
    Gateway,
    /// Region log -> Redpanda
    Relay,
    /// Region log -> Snowflake
    Forwarder,
    /// Signs the region logs whose keys are configured, and scrubs every log
    Signer,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Also create missing databases, and the logins that the configuration's URLs name
    #[arg(long, conflicts_with = "dry_run")]
    pub create: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const MIGRATE_HELP: &str = "\
Uses postgres_owner where it is configured, otherwise postgres. Migrations only ever expand the schema, so the
running version keeps working; two migrations at once wait for each other.

Examples:
  domicile migrate --dry-run                    what is pending, database by database
  domicile migrate
  domicile migrate --create                     a first installation: databases and logins too";

const AUDIT_HELP: &str = "\
A region's log is signed by the process that has its key ([regions.<name>.signer]). Give the public key to whoever
is to verify the log, by a way that does not lead through this service.

Examples:
  domicile audit key generate eu-central.log.example.com --out /run/secrets/eu-central-log-key
  domicile audit verify https://eu.data.example.com/v1/audit/eu-central --key eu-central.log.example.com+1d048f67+AdPg…
  domicile audit receipt check \"log=…; seq=42; leaf=…\" --proof 42.tlog-proof --key …
  domicile audit pack --region eu-central --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --out november.zip";

const WITNESS_HELP: &str = "\
To be run by whoever is to trust a log: an auditor, a customer, another region. It learns sizes and hashes only.
Put a TLS proxy in front of it; give its public key to the verifiers, and key and URL to the log's operator
([regions.<name>.signer] witnesses). It speaks C2SP tlog-witness: POST /add-checkpoint.

Example:
  domicile audit key generate witness.example.com/w1 --witness --out w1.key
  domicile witness --key w1.key --log eu-central.log.example.com+1d048f67+AdPg… --state /var/lib/witness";

#[derive(Debug, Args)]
pub(crate) struct Witness {
    /// The witness's private key file
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The public key of a log that it watches; several times for several
    #[arg(long = "log", value_name = "VKEY", required = true)]
    pub logs: Vec<String>,
    /// The folder in which it remembers what it has seen; to be kept as carefully as the key
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where it listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8090")]
    pub listen: std::net::SocketAddr,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Keys that logs and witnesses sign with
    #[command(subcommand)]
    Key(AuditKey),
    /// Verify a log, or a part of one in an evidence pack, against its public key
    #[command(after_help = AUDIT_VERIFY_HELP)]
    Verify(AuditVerify),
    /// Receipts: what `Domicile-Audit` of an answer promises
    #[command(subcommand)]
    Receipt(AuditReceipt),
    /// Make an evidence pack: a part of a log with everything that verifies it offline
    #[command(after_help = AUDIT_PACK_HELP)]
    Pack(AuditPack),
}

const AUDIT_VERIFY_HELP: &str = "\
Nothing that the log's server says about itself is believed: entries are hashed here, tiles are compared with the
signed root, decisions are taken again from the policies you give. Each check has its own verdict.

Exit codes (of the first check that fails):
  0   nothing failed; what was not checked is named
  1   the log could not be read
  2   the command line is wrong
  10  signed: the checkpoint is not signed by the key
  11  well-formed: an entry, a tile and the signed root do not fit each other, or an entry is no leaf
  12  append-only: the log does not continue the checkpoint you kept
  13  witnessed: too few witnesses cosigned
  14  gapless: a gateway counted a leaf that is not there, or one is there twice
  15  balanced: a transfer across a border stands on one side only
  16  replayed: a policy decides otherwise from the recorded evidence

Examples:
  domicile audit verify november.zip --key eu-central.log.example.com+1d048f67+AdPg…
  domicile audit verify https://eu.data.example.com/v1/audit/eu-central --token env:AUDIT_KEY --key … \\
      --since october.checkpoint --save november.checkpoint";

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// An evidence pack, or the URL of a region's log: `https://…/v1/audit/REGION`
    pub source: String,
    /// The log's public key, as you know it by another way
    #[arg(long, value_name = "VKEY")]
    pub key: String,
    /// A checkpoint that you kept: the log must be its continuation
    #[arg(long, value_name = "FILE")]
    pub since: Option<PathBuf>,
    /// Where to keep the checkpoint that was verified, for the next time; written only when nothing failed
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// The public key of a witness whose cosignature counts; several times for several
    #[arg(long = "witness", value_name = "VKEY")]
    pub witnesses: Vec<String>,
    /// How many of the witnesses must have cosigned; all of them by default
    #[arg(long, value_name = "K")]
    pub quorum: Option<usize>,
    /// A policy that was in force, to take its decisions again; several times for several
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// The table of jurisdictions to go with the policies; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "policies")]
    pub jurisdictions: Option<PathBuf>,
    /// The table of locations to go with the policies; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "policies")]
    pub locations: Option<PathBuf>,
    /// The API key or token for a URL, as file:… or env:NAME; it needs the scope audit:read
    #[arg(long, value_name = "REFERENCE", default_value = "env:DOMICILE_TOKEN")]
    pub token: String,
    /// Threads; as many as the machine has by default
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditReceipt {
    /// Check that a log holds the leaf that a receipt promises; offline
    #[command(after_help = AUDIT_RECEIPT_HELP)]
    Check(AuditReceiptCheck),
}

const AUDIT_RECEIPT_HELP: &str = "\
A receipt whose leaf cannot be proven is evidence against the log: keep it. The proof comes from
GET /v1/audit/<region>/proof/<seq>, a second after the answer or later.

Exit codes: 0 the leaf is in the log; 10 the proof is not signed by the key; 12 the log holds another leaf there;
11 the entry is not the one that the receipt promises.";

#[derive(Debug, Args)]
pub(crate) struct AuditReceiptCheck {
    /// The receipt: the value of the header `Domicile-Audit`
    pub receipt: String,
    /// The proof, a .tlog-proof file
    #[arg(long, value_name = "FILE")]
    pub proof: PathBuf,
    /// The log's public key, as you know it by another way
    #[arg(long, value_name = "VKEY")]
    pub key: String,
    /// The entry itself, to see that it is what the receipt promises
    #[arg(long, value_name = "FILE")]
    pub entry: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const AUDIT_PACK_HELP: &str = "\
A pack is made from the region's own database and belongs into the region: it says who asked for what and why it
was decided so, and names no subject. It holds whole tiles, so up to 255 entries more than asked for at either end.

Examples:
  domicile audit pack --region eu-central --out everything.zip
  domicile audit pack --region eu-central --from 2026-11-01T00:00:00Z --since october.checkpoint --out november.zip
  python3 verify.py november.zip KEY            (verify.py is in the pack)";

#[derive(Debug, Args)]
pub(crate) struct AuditPack {
    /// The region whose log it is; it must be served by this configuration
    #[arg(long)]
    pub region: String,
    /// From this time (RFC 3339) or entry on; from the beginning by default
    #[arg(long, value_name = "TIME|SEQ")]
    pub from: Option<String>,
    /// Up to this time (RFC 3339) or entry, exclusive; to the newest checkpoint by default
    #[arg(long, value_name = "TIME|SEQ")]
    pub to: Option<String>,
    /// A checkpoint that the auditor holds, so that the pack shows that it is continued
    #[arg(long, value_name = "FILE")]
    pub since: Option<PathBuf>,
    /// The new file
    #[arg(long, value_name = "ZIP")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditKey {
    /// Make a key: the private half into a new file, the public half to standard output
    Generate(AuditKeyGenerate),
    /// Print the public half of a private key's file
    Show(AuditKeyShow),
}

#[derive(Debug, Args)]
pub(crate) struct AuditKeyGenerate {
    /// The name it signs under: a log's origin (log_origin), or a witness's name
    pub name: String,
    /// The file for the private key, which must not exist yet; it is readable by its owner only
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// A key for a witness instead of a log
    #[arg(long)]
    pub witness: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditKeyShow {
    /// The private key's file
    pub file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create a key; its token is printed once and stored only as a hash
    Create(KeysCreate),
    /// List the keys
    List(KeysList),
    /// Revoke a key; every gateway forgets it within two seconds
    Revoke(KeysRevoke),
}

const KEYS_HELP: &str = "\
Examples:
  domicile keys create billing --scopes records:read,records:write,classify
  domicile keys create shop --scopes records:write --tenant acme
  domicile keys list
  domicile keys revoke 3f9a51c02b7e";

#[derive(Debug, Args)]
pub(crate) struct KeysCreate {
    /// Who will use it, e.g. the service's name
    pub name: String,
    /// What it may do, with commas: classify, subjects:read, subjects:write, subjects:any, records:read, records:write,
    /// events:write, zero-party:read, zero-party:write, audit:read, console:read, metrics,
    /// evidence:client-address, evidence:tenant
    #[arg(long, value_delimiter = ',', required = true)]
    pub scopes: Vec<String>,
    /// The tenant the caller belongs to
    #[arg(long)]
    pub tenant: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct KeysList {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct KeysRevoke {
    /// The key's id, as `keys list` shows it
    pub id: String,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Name every mistake at once, with file, key and fix; exit 1 if there is one
    Check(ConfigCheck),
    /// Print the effective settings, defaults and environment included; secrets stay references
    Show(ConfigShow),
    /// Print the JSON Schema, for editors: `domicile config schema > domicile.schema.json`
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON instead of TOML
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Prove the table: every country placed or refused on purpose, no dead rule, every placement lawful
    #[command(after_help = POLICY_CHECK_HELP)]
    Check(PolicyCheck),
    /// Classify without a server: where would this person be at home, and why
    #[command(after_help = POLICY_EXPLAIN_HELP)]
    Explain(PolicyExplain),
}

const POLICY_CHECK_HELP: &str = "\
Exit code 1 when a proof fails.

Examples:
  domicile policy check                         the policy of the configuration, or the built-in one
  domicile policy check --file candidate.toml
  domicile policy check --countries             also list where each country goes";

const POLICY_EXPLAIN_HELP: &str = "\
Nothing is stored or sent. Every option is a signal; the heaviest that says anything decides.

Examples:
  domicile policy explain --residence DE
  domicile policy explain --client-address 80.67.169.12
  domicile policy explain --residence FR --claim US-CA --json";

/// Which policy.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyFile {
    /// A policy table, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The table of jurisdictions to go with it; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "file")]
    pub jurisdictions: Option<PathBuf>,
    /// The table of locations to go with it; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "file")]
    pub locations: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyCheck {
    #[command(flatten)]
    pub policy: PolicyFile,
    /// List every country with its region or refusal
    #[arg(long)]
    pub countries: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyExplain {
    #[command(flatten)]
    pub policy: PolicyFile,
    /// The tenant the caller may speak for
    #[arg(long)]
    pub tenant: Option<String>,
    /// The residence in a verified token: DE, US-CA
    #[arg(long, value_name = "PLACE")]
    pub claim: Option<String>,
    /// The residence the person declared: DE, US-CA
    #[arg(long, value_name = "PLACE")]
    pub residence: Option<String>,
    /// The person's network address, looked up in the configured GeoIP database or the bundled one
    #[arg(long, value_name = "IP")]
    pub client_address: Option<IpAddr>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// Cursor, head and lag of each region served here, by its database; and, if a process answers on the admin
    /// listener, its rate, retries and dead letters
    Status(StatusArgs),
    /// Carry a part of a region's log once more; the cursor stays where it is
    Replay(Replay),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snowflake {
    /// Create what the forwarder needs in a region's account, each statement with its reason
    #[command(after_help = SNOWFLAKE_SETUP_HELP)]
    Setup(SnowflakeSetup),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub(crate) struct SnowflakeSetup {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region; may be left out where only one is served
    #[arg(long)]
    pub region: Option<String>,
    /// Log in as this user rather than as the forwarder, which should not be able to create roles
    #[arg(long, value_name = "USER", requires = "admin_login")]
    pub admin_user: Option<String>,
    /// That user's unencrypted PKCS#8 key: a file
    #[arg(long, value_name = "FILE", group = "admin_login")]
    pub admin_key: Option<PathBuf>,
    /// A variable that holds that user's password
    #[arg(long, value_name = "VARIABLE", group = "admin_login")]
    pub admin_password: Option<String>,
    /// The role to work under; the user's own by default
    #[arg(long, value_name = "ROLE")]
    pub admin_role: Option<String>,
    /// Only print the statements, with their reasons: they can be run elsewhere as they are
    #[arg(long, group = "how")]
    pub dry_run: bool,
    /// Run them
    #[arg(long, group = "how")]
    pub apply: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const SNOWFLAKE_SETUP_HELP: &str = "\
Tables are transient with at most a day of Time Travel, because what is erased has to be gone: permanent tables keep it
for seven days more. Roles and grants are made when the configuration names a role. Every statement may be repeated.

Examples:
  domicile snowflake setup --region eu-central --dry-run > setup.sql
  domicile snowflake setup --region eu-central --admin-user ADMIN --admin-key admin.p8 --admin-role ACCOUNTADMIN --apply";

const RELAY_HELP: &str = "\
A replay sends what is in the topics already: consumers skip what they have seen of (domicile_log, domicile_seq), and
see the header domicile_replay. Only an emptied or lost topic, or a new consumer of old events, needs one. Where a
consumer keeps only the newest sequence per key, end the relay first (domicile serve --role gateway,forwarder).

Examples:
  domicile relay status
  domicile relay replay --region eu-central --from 120000 --dry-run
  domicile relay replay --region eu-central --from 120000 --to 130000 --apply";

const FORWARDER_HELP: &str = "\
A replay changes nothing that is there: a row wins only over an older position of the log, and a tombstone stays. It
repairs a table that was restored from an older state, or fills a new one.

Examples:
  domicile forwarder status --json
  domicile forwarder replay --region eu-central --from 1 --dry-run
  domicile forwarder replay --region eu-central --from 1 --apply";

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub(crate) struct Replay {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region; may be left out where only one is served
    #[arg(long)]
    pub region: Option<String>,
    /// The first position of the log
    #[arg(long, value_name = "SEQ")]
    pub from: u64,
    /// The last position; the log's end by default
    #[arg(long, value_name = "SEQ")]
    pub to: Option<u64>,
    /// Only say what would be carried
    #[arg(long, group = "how")]
    pub dry_run: bool,
    /// Do it
    #[arg(long, group = "how")]
    pub apply: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The admin listener to ask, e.g. 127.0.0.1:9090; the configuration's by default
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Ask whether it is ready for requests, not only alive
    #[arg(long)]
    pub ready: bool,
}

const HEALTH_HELP: &str = "\
Exit code 0 when the process answers 200 within two seconds, 1 otherwise.

Example of a health check in a compose file:
  test: [\"CMD\", \"domicile\", \"health\"]";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_is_for_and_the_help_names_the_exit_codes() {
        fn walk(command: &clap::Command) {
            for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
                assert!(inner.get_about().is_some(), "{} says what it is for", inner.get_name());
                for argument in inner.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                    let said = argument.get_help().is_some();
                    assert!(said, "{} of {} says what it is for", argument.get_id(), inner.get_name());
                }
                walk(inner);
            }
        }
        let mut command = Cli::command();
        walk(&command);
        let help = command.render_long_help().to_string();
        for word in ["serve", "migrate", "keys", "config", "policy", "health", "Exit codes:", "domicile demo"] {
            assert!(help.contains(word), "{word} is in the help:\n{help}");
        }
    }

    #[test]
    fn roles_are_given_with_commas_and_default_to_all() {
        let roles = |words: &[&str]| match Cli::try_parse_from(words).expect("accepted").command {
            Command::Serve(serve) => serve.roles,
            other => panic!("serve, not {other:?}"),
        };
        assert_eq!(roles(&["domicile", "serve"]), [Role::All]);
        assert_eq!(roles(&["domicile", "serve", "--role", "relay,forwarder"]), [Role::Relay, Role::Forwarder]);
        assert!(Cli::try_parse_from(["domicile", "serve", "--role", "everything"]).is_err());
    }
}
