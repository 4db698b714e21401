-- domicile:phase expand
-- domicile:level 8
-- Erasing a subject. What rests about it goes in one transaction; what stays is that somebody, named by a keyed digest
-- only, was erased and when: the region's own memory, which refuses a later write and outlives a stale cache. Whoever
-- keeps something about subjects in a table of its own lets an insert into `erasures` take it along.

CREATE TABLE domicile.erasures (
    -- One row for each pepper in use at the time.
    digest        bytea       NOT NULL PRIMARY KEY CHECK (octet_length(digest) = 32),
    key_id        smallint    NOT NULL,
    -- The digest that the subject's events are keyed by; the row that has it as its own stands for the erasure.
    events_digest bytea       NOT NULL CHECK (octet_length(events_digest) = 32),
    epoch         bigint      NOT NULL CHECK (epoch > 0),
    erased_at     timestamptz NOT NULL,
    -- When the directory had its tombstone.
    filed_at      timestamptz,
    -- When the warehouse had forgotten, and by which of its statements.
    forwarded_at  timestamptz,
    forwarded_by  text
);
CREATE INDEX erasures_erased_at ON domicile.erasures (erased_at);
CREATE INDEX erasures_unfiled ON domicile.erasures (erased_at) WHERE filed_at IS NULL;
CREATE INDEX erasures_open ON domicile.erasures (erased_at) WHERE forwarded_at IS NULL AND digest = events_digest;

-- An event whose subject was erased: its place in the log stays, its content does not.
ALTER TABLE domicile.outbox ADD COLUMN erased boolean NOT NULL DEFAULT false;

-- Takes a subject's data away and keeps the tombstone. Called twice within one erasure: first for everything, and once
-- more under the head's lock for what was committed meanwhile, behind the log position `behind`; 0 is everything.
-- Events are found by the index of decisions, which knows the log positions of a subject's leaves, and behind the
-- index by reading; an outbox indexed by subject would make every write dearer.
CREATE FUNCTION domicile.erase_subject(
    whose text, its_tag text, its_digests bytea[], its_key_ids smallint[], its_events_digest bytea, its_epoch bigint,
    happened_at timestamptz, behind bigint,
    OUT records_gone bigint, OUT attributes_gone bigint, OUT history_gone bigint, OUT keys_gone bigint, OUT events_blanked bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    indexed bigint := (SELECT coalesce(max(c.seq), 0) FROM domicile.cursors AS c WHERE c.name = 'index');
    more    bigint;
BEGIN
    DELETE FROM domicile.records AS r WHERE r.subject = whose;
    GET DIAGNOSTICS records_gone = ROW_COUNT;
    DELETE FROM domicile.zero_party AS z WHERE z.subject = whose;
    GET DIAGNOSTICS attributes_gone = ROW_COUNT;
    DELETE FROM domicile.zero_party_history AS h WHERE h.digest = its_events_digest;
    GET DIAGNOSTICS history_gone = ROW_COUNT;
    DELETE FROM domicile.idempotency AS i WHERE i.subject = whose;
    GET DIAGNOSTICS keys_gone = ROW_COUNT;
    -- The row holds the secret that made the subject's tags: without it the log speaks of nobody.
    DELETE FROM domicile.subjects AS s WHERE s.subject = whose;

    events_blanked := 0;
    IF behind = 0 AND its_tag IS NOT NULL THEN
        UPDATE domicile.outbox AS o
        SET data = '', extensions = NULL, traceparent = NULL, source = '/', event_id = 'erased-' || o.seq, erased = true
        FROM domicile.decision_index AS d
        WHERE d.subject_tag = its_tag AND d.seq <= indexed
          AND o.seq = d.seq AND o.key = its_events_digest AND NOT o.erased;
        GET DIAGNOSTICS events_blanked = ROW_COUNT;
    END IF;
    UPDATE domicile.outbox AS o
    SET data = '', extensions = NULL, traceparent = NULL, source = '/', event_id = 'erased-' || o.seq, erased = true
    WHERE o.seq > greatest(CASE WHEN behind = 0 THEN indexed END, behind) AND o.key = its_events_digest AND NOT o.erased;
    GET DIAGNOSTICS more = ROW_COUNT;
    events_blanked := events_blanked + more;

    INSERT INTO domicile.erasures (digest, key_id, events_digest, epoch, erased_at)
    SELECT d.digest, d.key_id, its_events_digest, its_epoch, happened_at
    FROM unnest(its_digests, its_key_ids) AS d(digest, key_id)
    ON CONFLICT (digest) DO NOTHING;
END
$$;
REVOKE ALL ON FUNCTION domicile.erase_subject(text, text, bytea[], smallint[], bytea, bigint, timestamptz, bigint) FROM PUBLIC;

-- The history is of changes only; an erasure travels in the same channel.
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

GRANT SELECT, UPDATE (filed_at, forwarded_at, forwarded_by) ON domicile.erasures TO domicile_gateway;
GRANT EXECUTE ON FUNCTION
    domicile.erase_subject(text, text, bytea[], smallint[], bytea, bigint, timestamptz, bigint) TO domicile_gateway;
