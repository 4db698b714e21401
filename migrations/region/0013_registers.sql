-- domicile:phase expand
-- domicile:level 13
-- Registers of the region log, for those who have to answer for it: what crossed a border, and what was not as it should be.
-- Derived from the leaves by the cursor `registers`. What was acknowledged is a leaf of its own, too.

-- Every leaf about a transfer: the decision's own, and the counterpart of one in another region's log.
CREATE TABLE domicile.transfers (
    seq         bigint      NOT NULL PRIMARY KEY,
    id          uuid        NOT NULL,
    counterpart boolean     NOT NULL,
    at_us       bigint      NOT NULL,
    from_region text        NOT NULL,
    to_region   text        NOT NULL,
    basis       text        NOT NULL,
    instrument  text,
    actor       text        NOT NULL,
    rows        bigint      NOT NULL,
    bytes       bigint      NOT NULL,
    leaf_hash   bytea       NOT NULL CHECK (octet_length(leaf_hash) = 32),
    -- Of a counterpart: the hash of the leaf in the other log.
    of_hash     bytea       CHECK (octet_length(of_hash) = 32),
    -- When the other side was seen in the other log.
    matched_us  bigint
);
CREATE INDEX transfers_id ON domicile.transfers (id);
CREATE INDEX transfers_unmatched ON domicile.transfers (seq) WHERE matched_us IS NULL;

CREATE TABLE domicile.violations (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What makes it the same violation when it is found again.
    mark            text        NOT NULL UNIQUE,
    rule            text        NOT NULL,
    seq             bigint,
    says            text        NOT NULL,
    at_us           bigint      NOT NULL,
    acknowledged_us bigint,
    acknowledged_by text,
    reason          text,
    -- The leaf of the acknowledgement holds the SHA-256 of this and the reason: a reason may name somebody, a leaf must not.
    salt            bytea       CHECK (octet_length(salt) = 16),
    CHECK ((acknowledged_us IS NULL) = (acknowledged_by IS NULL) AND (reason IS NULL) = (salt IS NULL))
);
CREATE INDEX violations_open ON domicile.violations (id) WHERE acknowledged_us IS NULL;

-- How far each boot of a gateway has counted, and the counts below that have not been seen.
CREATE TABLE domicile.gateway_counts (
    gateway text   NOT NULL PRIMARY KEY,
    last    bigint NOT NULL
);
CREATE TABLE domicile.gateway_gaps (
    gateway text   NOT NULL,
    first   bigint NOT NULL,
    last    bigint NOT NULL,
    -- The entry behind the gap, and its time.
    seq     bigint NOT NULL,
    at_us   bigint NOT NULL,
    PRIMARY KEY (gateway, first)
);

GRANT SELECT, INSERT ON domicile.transfers, domicile.violations TO domicile_gateway;
GRANT UPDATE (matched_us) ON domicile.transfers TO domicile_gateway;
GRANT UPDATE (acknowledged_us, acknowledged_by, reason, salt) ON domicile.violations TO domicile_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON domicile.gateway_counts, domicile.gateway_gaps TO domicile_gateway;
