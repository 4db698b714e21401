-- domicile:phase expand
-- domicile:level 7
-- What each attribute was, and what people agreed to when, under which notice: one row per change, derived from its
-- event in the very commit, so that no writer can forget it. `zero_party` is the current state. When an attribute is
-- taken back, its values go from here too; that it was declared, with which consents, and when it was taken back,
-- stays: it is the proof that there was a consent.

CREATE TABLE domicile.zero_party_history (
    seq        bigint           NOT NULL PRIMARY KEY,
    digest     bytea            NOT NULL CHECK (octet_length(digest) = 32),
    key_id     smallint         NOT NULL,
    attribute  text COLLATE "C" NOT NULL,
    version    bigint           NOT NULL CHECK (version > 0),
    value      jsonb,
    consents   jsonb            NOT NULL,
    source     text,
    deleted    boolean          NOT NULL,
    changed_at timestamptz      NOT NULL
);
CREATE INDEX zero_party_history_attribute ON domicile.zero_party_history (digest, attribute, seq);

CREATE FUNCTION domicile.keep_zero_party_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said jsonb := convert_from(NEW.data, 'UTF8')::jsonb;
    gone boolean := coalesce((said ->> 'deleted')::boolean, false);
BEGIN
    IF gone THEN
        UPDATE domicile.zero_party_history AS h SET value = NULL
        WHERE h.digest = NEW.key AND h.attribute = said ->> 'attribute' AND h.value IS NOT NULL;
    END IF;
    INSERT INTO domicile.zero_party_history
        (seq, digest, key_id, attribute, version, value, consents, source, deleted, changed_at)
    VALUES (NEW.seq, NEW.key, NEW.key_id, said ->> 'attribute', (said ->> 'version')::bigint,
            CASE WHEN gone THEN NULL ELSE said -> 'value' END,
            coalesce(said -> 'consents', '[]'::jsonb), said ->> 'source', gone, NEW."time");
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION domicile.keep_zero_party_history() FROM PUBLIC;

-- Only zero-party changes: every other event passes by a comparison of two numbers.
CREATE TRIGGER zero_party_history AFTER INSERT ON domicile.outbox
    FOR EACH ROW WHEN (NEW.channel = 1) EXECUTE FUNCTION domicile.keep_zero_party_history();

-- An erasure takes the history with it. Nobody else writes it.
GRANT SELECT, DELETE ON domicile.zero_party_history TO domicile_gateway;
