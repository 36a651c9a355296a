-- What the first three tiers bring, as their descriptions say: the tiers came without it. An
-- operator's own words stay: a tier that was ever changed has another version.
UPDATE device_tiers t SET features = f.features, version = t.version + 1, updated_at = now()
  FROM (VALUES
    (1, 'basic', '{"telemetry": true, "alerts": true, "dashboards": false, "ota": false,
      "analytics": false, "x509_auth": false, "streaming_export": false, "message_routing": false}'
      ::jsonb),
    (2, 'standard', '{"telemetry": true, "alerts": true, "dashboards": true, "ota": false,
      "analytics": true, "x509_auth": false, "streaming_export": false, "message_routing": false}'),
    (3, 'premium', '{"telemetry": true, "alerts": true, "dashboards": true, "ota": true,
      "analytics": true, "x509_auth": true, "streaming_export": true, "message_routing": true}')
  ) AS f (tier_id, name, features)
 WHERE t.tier_id = f.tier_id AND t.name = f.name AND t.features = '{}' AND t.version = 1;
