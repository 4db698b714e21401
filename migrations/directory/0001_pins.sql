-- domicile:phase expand
-- domicile:level 1
-- The directory: which region is home to whom, and nothing else (no name, no country, no time).
-- A subject appears only as HMAC-SHA-256 under a secret pepper that this database never sees.

-- Roles belong to the whole server, where another database may be migrated at this very moment.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'domicile_directory') THEN
        CREATE ROLE domicile_directory NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

-- Whoever migrates can then also act as one, with no more rights than that.
DO $$
BEGIN
    IF NOT pg_catalog.pg_has_role(current_user, 'domicile_directory', 'MEMBER') THEN
        EXECUTE pg_catalog.format('GRANT domicile_directory TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
    NULL;
END
$$;

CREATE TABLE domicile.pins (
    -- HMAC-SHA-256(pepper, "domicile/pin/v1\0" || subject)
    subject_digest bytea    NOT NULL CONSTRAINT pins_digest_is_sha256 CHECK (octet_length(subject_digest) = 32),
    -- Which pepper: while peppers rotate, a subject has one row for each.
    key_id         smallint NOT NULL CONSTRAINT pins_key_id_not_negative CHECK (key_id >= 0),
    region         text     NOT NULL CONSTRAINT pins_region_is_a_name CHECK (region ~ '^[a-z][a-z0-9-]{0,39}$'),
    -- Grows by one at each relocation; the first home has epoch 1.
    epoch          bigint   NOT NULL CONSTRAINT pins_epoch_counts_from_one CHECK (epoch >= 1),
    state          text     NOT NULL CONSTRAINT pins_state_is_known CHECK (state IN ('active', 'moving', 'erased')),
    CONSTRAINT pins_pkey PRIMARY KEY (subject_digest)
);

-- A gateway finds, claims and moves pins. It never deletes one, and never changes whose pin it is.
GRANT USAGE ON SCHEMA domicile TO domicile_directory;
GRANT SELECT, INSERT ON domicile.pins TO domicile_directory;
GRANT UPDATE (region, epoch, state) ON domicile.pins TO domicile_directory;
