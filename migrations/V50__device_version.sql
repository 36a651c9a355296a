-- A device's name and site can be changed, by the rules of versions (docs/api.md, "Versions"). Only
-- adds; the functions before write neither, and a device that they register has the first version.
ALTER TABLE devices ADD COLUMN version bigint NOT NULL DEFAULT 1;
GRANT UPDATE (version) ON devices TO pulse_app;
