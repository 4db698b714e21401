-- domicile:phase expand
-- domicile:level 10
-- Identifying details of decisions, beside the log: sealed under a key that the subject's secret makes, and bound to the
-- leaf by the commitment in it. They go when the subject is erased, and the log stays as it is.

CREATE TABLE domicile.details (
    seq     bigint           NOT NULL PRIMARY KEY,
    subject text COLLATE "C" NOT NULL,
    nonce   bytea            NOT NULL CHECK (octet_length(nonce) = 12),
    sealed  bytea            NOT NULL CHECK (octet_length(sealed) <= 8192)
);
CREATE INDEX details_subject ON domicile.details (subject);

GRANT SELECT, INSERT, DELETE ON domicile.details TO domicile_gateway;
