-- domicile:phase expand
-- domicile:level 19
-- When an attribute is taken back, its values leave the history. Of a long history that takes a while, and so it is done
-- before the head of the log is taken, while others commit: by a function, in the transaction that takes the attribute
-- back. It leaves a mark for that transaction: the size of the log before it looked, so that everything below is blank.
-- The trigger, under the head's lock, then blanks only what has come since: changes of the same batch. Where nobody called
-- the function, as releases before it do not, there is no mark, and the trigger blanks everything itself.

CREATE FUNCTION domicile.blank_history(its_digests bytea[], its_attributes text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Read first: what is in the log by now, the statement below sees.
    mark    bigint := (SELECT h.size FROM domicile.head AS h WHERE h.only_row);
    blanked bigint;
BEGIN
    UPDATE domicile.zero_party_history AS h SET value = NULL
    FROM (SELECT DISTINCT t.digest, t.attribute FROM unnest(its_digests, its_attributes) AS t(digest, attribute)) AS gone
    WHERE h.digest = gone.digest AND h.attribute = gone.attribute AND h.value IS NOT NULL;
    GET DIAGNOSTICS blanked = ROW_COUNT;
    -- Until the transaction ends, however it ends.
    PERFORM set_config('domicile.history_blank_below', mark::text, true);
    RETURN blanked;
END
$$;
REVOKE ALL ON FUNCTION domicile.blank_history(bytea[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION domicile.blank_history(bytea[], text[]) TO domicile_gateway;

CREATE OR REPLACE FUNCTION domicile.keep_zero_party_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said jsonb;
    gone boolean;
BEGIN
    IF NEW.event_type <> 'domicile.zero-party-changed' THEN
        RETURN NULL;
    END IF;
    said := convert_from(NEW.data, 'UTF8')::jsonb;
    gone := coalesce((said ->> 'deleted')::boolean, false);
    IF gone THEN
        UPDATE domicile.zero_party_history AS h SET value = NULL
        WHERE h.digest = NEW.key AND h.attribute = said ->> 'attribute' AND h.value IS NOT NULL
          -- After a transaction that had a mark, the setting is there and empty.
          AND h.seq >= coalesce(nullif(current_setting('domicile.history_blank_below', true), '')::bigint, 0);
    END IF;
    INSERT INTO domicile.zero_party_history
        (seq, digest, key_id, attribute, version, value, consents, source, deleted, changed_at)
    VALUES (NEW.seq, NEW.key, NEW.key_id, said ->> 'attribute', (said ->> 'version')::bigint,
            CASE WHEN gone THEN NULL ELSE said -> 'value' END,
            coalesce(said -> 'consents', '[]'::jsonb), said ->> 'source', gone, NEW."time");
    RETURN NULL;
END
$$;
