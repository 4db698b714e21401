-- domicile:phase expand
-- domicile:level 5
-- The policies under which decisions of this log were taken, so that an auditor can take them again. A leaf
-- names a policy by the SHA-256 of its text; the tables that the text chooses from are kept beside it.

CREATE TABLE domicile.policies (
    sha256        bytea       NOT NULL PRIMARY KEY CHECK (octet_length(sha256) = 32),
    text          text        NOT NULL,
    jurisdictions text        NOT NULL,
    locations     text        NOT NULL,
    kept_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (sha256 = pg_catalog.sha256(pg_catalog.convert_to(text, 'UTF8')))
);

GRANT SELECT, INSERT ON domicile.policies TO domicile_gateway;
