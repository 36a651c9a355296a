-- Operators name a device by its id alone. An index in the order of ids served that, and lured the planner: of a tenant with half of all devices
-- it read a page through everybody else's. A hash has no order.
CREATE INDEX devices_of_id ON devices USING hash (device_id);
DROP INDEX devices_id;
