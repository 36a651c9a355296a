//! The integration tests, one binary: `api` by function, `scenarios` as stories over several,
//! `contract` for what holds everywhere. The numbers in comments ("trap 3") are those of
//! docs/traps.md.

#![expect(clippy::too_many_lines, reason = "a scenario is one piece")]

// Every `assert_eq!` shows where two values differ, line by line.
#[macro_use]
extern crate pretty_assertions;

mod api {
    mod addon_checkout;
    mod addon_events;
    mod addon_quantity;
    mod adoption;
    mod allocations;
    mod billing;
    mod currencies;
    mod customer_devices;
    mod device_updates;
    mod devices;
    mod entitlements;
    mod flags;
    mod invariants;
    mod keycloak;
    mod last_seen;
    mod mails;
    mod migrate;
    mod named_limits;
    mod not_ours;
    mod operations;
    mod operator_plans;
    mod outbox;
    mod overview;
    mod provisioning;
    mod renewals_operator;
    mod search;
    mod stripe_events;
    mod subscriptions;
    mod tenants;
    mod users;
    mod webhook;
}
mod contract {
    mod access;
    mod business_time;
    mod capacity;
    mod codes;
    mod connections;
    mod database;
    mod due;
    mod errors;
    mod layers;
    mod lists;
    mod mails;
    mod monitoring;
    mod openapi;
    mod realm;
    mod round_trips;
    mod settings;
    mod stripe_mock;
    mod stripe_rows;
    mod template;
    mod transactions;
    mod words;
}
mod scenarios {
    mod checkout;
    mod concurrency;
    mod families;
    mod journeys;
    mod kills;
    mod lifecycle;
    mod lives;
    mod outages;
    mod recovery;
    mod redelivery;
    mod renewals;
    mod renewals_together;
    mod restore;
    mod running_functions;
    mod upkeep;
    mod walkthroughs;
    mod year;
}
