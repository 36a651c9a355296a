//! template.yaml and foundation.yaml against each other: how many connections the functions hold,
//! and what the database takes.

use serde_json::json;
use simulators::template::Template;

use super::template::{functions, roles, template};

/// An instance holds one connection for each of its roles, and while a version replaces another the
/// instances of the old one hold theirs until `idle_session_timeout` ends them.
#[test]
fn the_instances_of_two_versions_leave_a_fifth_of_the_databases_connections() {
    let template = template();
    for (size, numbers) in template.whole()["Mappings"]["Sizes"].as_object().expect("sizes") {
        let given = |reference: &str| (reference == "Size").then(|| json!(size));
        let mut connections = 0;
        for (name, (_, function)) in functions(&template) {
            let reserved = template
                .resolve(&function["ReservedConcurrentExecutions"], &given)
                .expect("a number, or none");
            assert_eq!(reserved.is_null(), size == "trial", "{name}: {size} reserves {reserved}");
            // Without reserved concurrency the ten instances of a new account are for all.
            let instances = reserved.as_u64().unwrap_or(1);
            let roles =
                roles(&name).into_iter().filter(|role| role.database_user().is_some()).count();
            let each = match name.as_str() {
                "webhook" => 0,
                // It reads the roles' secrets, and connects as the owner.
                "migrate" => 1,
                _ => u64::try_from(roles).expect("a few"),
            };
            assert!(name == "webhook" || each > 0, "{name}");
            connections += 2 * instances * each;
        }
        let most = numbers["MaxConnections"].as_u64().expect("a number") * 4 / 5;
        assert!(connections <= most, "{size}: {connections} of at most {most}");
    }
}

#[test]
fn the_foundation_of_a_size_has_the_connections_that_its_functions_are_counted_for() {
    let foundation = Template::read(&tests::repository("foundation.yaml")).expect("foundation");
    let sizes = &foundation.whole()["Mappings"]["Sizes"];
    let wanted = template().whole()["Mappings"]["Sizes"].as_object().expect("sizes").clone();
    for (size, numbers) in &wanted {
        let most = numbers["MaxConnections"].as_u64().expect("a number");
        assert_eq!(sizes[size]["MaxConnections"], json!(most.to_string()), "{size}");
        assert_eq!(sizes[size]["ConnectionsAlarm"], json!(most * 4 / 5), "{size}");
    }
    assert_eq!(wanted.len(), sizes.as_object().expect("sizes").len());
    let settings = &foundation.properties("DatabaseSettings")["Parameters"];
    assert_eq!(
        settings["max_connections"],
        json!({"Fn::FindInMap": ["Sizes", {"Ref": "Size"}, "MaxConnections"]})
    );
}
