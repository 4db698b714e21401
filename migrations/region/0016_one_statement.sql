-- domicile:phase expand
-- domicile:level 16
-- What a statement calls that finds, in its own middle, that it must not have been begun: somebody else was faster.
-- It fails as a whole, and the batch is looked at again.

CREATE FUNCTION domicile.overtaken() RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the log or a record was changed meanwhile' USING ERRCODE = '40001';
END
$$;
REVOKE ALL ON FUNCTION domicile.overtaken() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION domicile.overtaken() TO domicile_gateway;
