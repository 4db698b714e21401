-- domicile:phase expand
-- domicile:level 6
-- What the log says beside decisions: policies by a hash that covers their presets, an index of such leaves, and
-- the configuration as it was last seen, so that a change of it can be named.

-- The policies that were in force, by the hash that decisions name: over the table and both presets. `policies`
-- holds those of older gateways, by the hash of the table alone.
CREATE TABLE domicile.policy_sets (
    sha256        bytea       NOT NULL PRIMARY KEY CHECK (octet_length(sha256) = 32),
    text          text        NOT NULL,
    jurisdictions text        NOT NULL,
    locations     text        NOT NULL,
    kept_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (sha256 = pg_catalog.sha256(pg_catalog.convert_to(
        'domicile/policy/v2' || pg_catalog.chr(10)
        || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(text, 'UTF8')), 'hex') || pg_catalog.chr(10)
        || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(jurisdictions, 'UTF8')), 'hex') || pg_catalog.chr(10)
        || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(locations, 'UTF8')), 'hex') || pg_catalog.chr(10),
        'UTF8')))
);

-- Derived from the leaves by the cursor `facts`: every leaf that is about no decision, and every decision whose data
-- crossed a border. May be emptied and derived again at any time.
CREATE TABLE domicile.fact_index (
    seq      bigint NOT NULL PRIMARY KEY,
    at_us    bigint NOT NULL,
    kind     text   NOT NULL,
    actor    text,
    crossing uuid
);
CREATE INDEX fact_index_kind ON domicile.fact_index (kind, seq);
CREATE INDEX fact_index_crossing ON domicile.fact_index (crossing) WHERE crossing IS NOT NULL;

-- The effective configuration of each gateway instance when it last started here: a hash of each key's value, and
-- of a secret only of where it is kept.
CREATE TABLE domicile.settings_seen (
    instance text  NOT NULL,
    key      text  NOT NULL,
    sha256   bytea NOT NULL CHECK (octet_length(sha256) = 32),
    PRIMARY KEY (instance, key)
);

GRANT SELECT, INSERT ON domicile.policy_sets TO domicile_gateway;
GRANT SELECT, INSERT, DELETE ON domicile.fact_index TO domicile_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON domicile.settings_seen TO domicile_gateway;
