-- domicile:phase expand
-- domicile:level 2
-- API keys of calling services. Only a hash of the secret rests here, so that a copy of this table opens nothing.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'domicile_keys') THEN
        CREATE ROLE domicile_keys NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

-- Whoever migrates can then also act as one, with no more rights than that.
DO $$
BEGIN
    IF NOT pg_catalog.pg_has_role(current_user, 'domicile_keys', 'MEMBER') THEN
        EXECUTE pg_catalog.format('GRANT domicile_keys TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
    NULL;
END
$$;

CREATE TABLE domicile.api_keys (
    -- The public part of the token, safe to show and to log.
    id          text        NOT NULL CONSTRAINT api_keys_id_is_a_token_part CHECK (id ~ '^[0-9A-Za-z]{12}$'),
    -- What the operator calls it, e.g. `checkout`. Audit leaves name the caller by it.
    name        text        NOT NULL CONSTRAINT api_keys_name_is_a_name CHECK (name ~ '^[A-Za-z0-9._-]{1,64}$'),
    -- SHA-256 of 32 random bytes: nothing to guess, so no slow hash is needed.
    secret_hash bytea       NOT NULL CONSTRAINT api_keys_hash_is_sha256 CHECK (octet_length(secret_hash) = 32),
    scopes      text[]      NOT NULL,
    tenant      text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id)
);

-- Two keys of one name could not be told apart in the audit log; a revoked key frees its name.
CREATE UNIQUE INDEX api_keys_one_live_key_of_a_name ON domicile.api_keys (name) WHERE revoked_at IS NULL;

-- A gateway only looks keys up; whoever manages them may make and revoke them, and change nothing else.
GRANT SELECT ON domicile.api_keys TO domicile_directory;
GRANT USAGE ON SCHEMA domicile TO domicile_keys;
GRANT SELECT, INSERT ON domicile.api_keys TO domicile_keys;
GRANT UPDATE (revoked_at) ON domicile.api_keys TO domicile_keys;
