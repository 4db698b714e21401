-- domicile:phase expand
-- domicile:level 1
-- A region's database: who it is, its subjects and their data, and its log. It is founded for one
-- region, once, by domicile.found; before that it holds no partition and takes no row.

CREATE SCHEMA IF NOT EXISTS domicile;

-- Which region this is, and on which cluster it lives. A gateway compares it with its configuration at
-- every connect, so that a connection string that leads elsewhere is refused.
CREATE TABLE domicile.region_identity (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    region            text        NOT NULL,
    jurisdiction      text        NOT NULL,
    origin            text        NOT NULL,
    system_identifier bigint      NOT NULL,
    founded_at        timestamptz NOT NULL DEFAULT now()
);

-- The end of the log: its size, the Merkle frontier over all leaves, the epoch of the log, and a counter
-- of changes of any subject's state. Locked last in every commit and held to its end, which makes the
-- log dense and ordered. One row, rewritten by every commit: room on its page keeps that cheap.
CREATE TABLE domicile.head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    size     bigint NOT NULL CHECK (size >= 0),
    frontier bytea  NOT NULL,
    epoch    bigint NOT NULL,
    fence    bigint NOT NULL
) WITH (fillfactor = 10);

-- Who is at home here. The authority: the directory is a hint. `secret` makes the subject's tag in the
-- log; `version_floor` is above every version that a deleted thing of the subject ever had.
CREATE TABLE domicile.subjects (
    subject       text COLLATE "C" PRIMARY KEY,
    digest        bytea       NOT NULL CHECK (octet_length(digest) = 32),
    key_id        smallint    NOT NULL,
    state         text        NOT NULL CHECK (state IN ('active', 'departing', 'arriving', 'departed', 'erased')),
    epoch         bigint      NOT NULL CHECK (epoch > 0),
    secret        bytea       NOT NULL CHECK (octet_length(secret) = 32),
    version_floor bigint      NOT NULL DEFAULT 0,
    registered_at timestamptz NOT NULL
) WITH (fillfactor = 90);

-- The subjects' records. Only the partition of this very region exists, so Postgres itself refuses
-- another region's row. The key begins with the subject: a region's name leads nowhere in its own index.
CREATE TABLE domicile.records (
    region     text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    collection text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    version    bigint           NOT NULL CHECK (version > 0),
    body       jsonb            NOT NULL,
    updated_at timestamptz      NOT NULL,
    PRIMARY KEY (subject, collection, key, region)
) PARTITION BY LIST (region);

-- What people knowingly tell about themselves, and what they agreed to. `consents` is a list of
-- {"purpose", "granted", "notice_version", "given_at_us"}.
CREATE TABLE domicile.zero_party (
    region     text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    attribute  text COLLATE "C" NOT NULL,
    version    bigint           NOT NULL CHECK (version > 0),
    value      jsonb            NOT NULL,
    consents   jsonb            NOT NULL,
    source     text             NOT NULL,
    updated_at timestamptz      NOT NULL,
    PRIMARY KEY (subject, attribute, region)
) PARTITION BY LIST (region);

-- Every event to be streamed, at the log position of the deed that caused it. Channel 0 goes to the
-- topics only, channel 1 (zero-party) to the topics and to the warehouse.
CREATE TABLE domicile.outbox (
    seq             bigint      NOT NULL PRIMARY KEY,
    channel         smallint    NOT NULL CHECK (channel IN (0, 1)),
    topic           text        NOT NULL,
    key             bytea       NOT NULL CHECK (octet_length(key) = 32),
    key_id          smallint    NOT NULL,
    event_type      text        NOT NULL,
    event_id        text        NOT NULL,
    source          text        NOT NULL,
    "time"          timestamptz NOT NULL,
    datacontenttype text        NOT NULL,
    traceparent     text,
    extensions      jsonb,
    data            bytea       NOT NULL
) PARTITION BY RANGE (seq);
CREATE INDEX outbox_zero_party ON domicile.outbox (seq) WHERE channel = 1;

-- The audit log: one canonical JSON line per leaf. The line is what is hashed, stored and exported.
CREATE TABLE domicile.leaves (
    seq  bigint NOT NULL PRIMARY KEY,
    hash bytea  NOT NULL CHECK (octet_length(hash) = 32),
    line text   NOT NULL
) PARTITION BY RANGE (seq);

-- Merkle tiles (C2SP tlog-tiles): level, index, 256 hashes. Filled by the audit log's own work.
CREATE TABLE domicile.tiles (
    level  smallint NOT NULL,
    n      bigint   NOT NULL,
    hashes bytea    NOT NULL,
    PRIMARY KEY (level, n)
);

-- How far each reader of the log has come. A lease with a growing token fences an owner that was slow.
CREATE TABLE domicile.cursors (
    name        text COLLATE "C" PRIMARY KEY,
    seq         bigint      NOT NULL DEFAULT 0,
    owner       text,
    token       bigint      NOT NULL DEFAULT 0,
    lease_until timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What was done under a caller's idempotency key.
CREATE TABLE domicile.idempotency (
    subject      text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    request_hash bytea       NOT NULL,
    event_id     text        NOT NULL,
    topic        text        NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (subject, key)
);
CREATE INDEX idempotency_created_at ON domicile.idempotency (created_at);

-- Derived from the leaves by the cursor `index`, for searching; may be emptied and derived again at any time.
CREATE TABLE domicile.decision_index (
    seq         bigint NOT NULL PRIMARY KEY,
    id          uuid   NOT NULL,
    at_us       bigint NOT NULL,
    actor       text   NOT NULL,
    rule        text   NOT NULL,
    outcome     text   NOT NULL,
    kind        text   NOT NULL,
    operation   text   NOT NULL,
    subject_tag text
);
CREATE INDEX decision_index_id ON domicile.decision_index (id);
CREATE INDEX decision_index_subject_tag ON domicile.decision_index (subject_tag, seq) WHERE subject_tag IS NOT NULL;
