use super::*;

type Received = Arc<Mutex<Vec<String>>>;

/// Starts a webhook endpoint that records the ids of the events that it receives.
async fn endpoint(simulator: &Simulator) -> Received {
    async fn receive(State(received): State<Received>, body: String) {
        let event: Value = serde_json::from_str(&body).expect("JSON");
        lock(&received).push(objects::text(&event, "id").to_owned());
    }
    let received = Received::default();
    let app = axum::Router::new().fallback(receive).with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    simulator
        .set_webhook_url(Some(format!("http://{}/", listener.local_addr().expect("an address"))));
    tokio::spawn(async move { axum::serve(listener, app).await });
    received
}

/// Waits for `n` events and returns their ids.
async fn until(received: &Received, n: usize) -> Vec<String> {
    for _ in 0..200 {
        if lock(received).len() >= n {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lock(received).clone()
}

fn ids(simulator: &Simulator) -> Vec<String> {
    simulator.events().iter().map(|event| objects::text(event, "id").to_owned()).collect()
}

#[tokio::test]
async fn disorder_duplicates_delays_and_shuffles_but_loses_nothing() {
    let simulator = simulator().await;
    let received = endpoint(&simulator).await;
    let disorder = Disorder {
        seed: 7,
        duplicate_percent: 100,
        max_delay: Duration::from_millis(300),
        shuffle: true,
    };
    simulator.set_delivery(Some(disorder));
    subscribed(&simulator, "2027-01-31T10:00:00Z");
    simulator.advance_to(at("2027-04-30T10:00:00Z"));
    let sent = ids(&simulator);
    let mut got = until(&received, 2 * sent.len()).await;
    let in_order: Vec<String> = sent.iter().flat_map(|id| [id.clone(), id.clone()]).collect();
    assert_eq!(got.len(), in_order.len());
    assert_ne!(got, in_order, "shuffled");
    let mut all = in_order;
    all.sort();
    got.sort();
    assert_eq!(got, all, "each of them twice");

    let ordered = Disorder {
        seed: 7,
        duplicate_percent: 0,
        max_delay: Duration::from_millis(10),
        shuffle: false,
    };
    simulator.set_delivery(Some(ordered));
    lock(&received).clear();
    simulator.advance_to(at("2027-05-31T10:00:00Z"));
    assert_eq!(until(&received, 4).await, ids(&simulator)[sent.len()..]);
}

#[tokio::test]
async fn dropped_events_are_listed_for_30_days_and_never_delivered() {
    let simulator = simulator().await;
    let received = endpoint(&simulator).await;
    simulator.drop_deliveries(true);
    subscribed(&simulator, "2027-01-31T10:00:00Z");
    let dropped = ids(&simulator);
    simulator.drop_deliveries(false);
    simulator.advance_to(at("2027-02-28T10:00:00Z"));
    assert_eq!(until(&received, 4).await, ids(&simulator)[dropped.len()..]);
    assert_eq!(simulator.deliveries().len(), 4);
    let listed = async || {
        get(&simulator, "events?limit=100").await.1["data"].as_array().expect("a list").len()
    };
    assert_eq!(listed().await, dropped.len() + 4);
    simulator.set_now(at("2027-03-02T10:00:01Z"));
    assert_eq!(listed().await, 4);
    assert_eq!(get(&simulator, &format!("events/{}", dropped[0])).await.0, 404);
}

#[tokio::test]
async fn older_api_versions_have_periods_on_the_subscription_and_the_payment_on_the_invoice() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    simulator.advance_to(at("2027-02-28T10:00:00Z"));
    let newest: Vec<Value> = simulator.events().into_iter().rev().take(4).collect();
    let [paid, _, updated, created] = &newest[..] else { panic!("a renewal") };
    for version in ["2023-10-16", "2024-06-20"] {
        let old = shape_event(updated, version);
        assert_eq!(old["api_version"], version);
        let data = &old["data"];
        assert_eq!(data["object"]["current_period_end"], second("2027-03-31T10:00:00Z"));
        assert_eq!(
            data["previous_attributes"]["current_period_end"],
            second("2027-02-28T10:00:00Z")
        );
        assert!(data["object"]["items"]["data"][0].get("current_period_end").is_none());
        let invoice = &shape_event(paid, version)["data"]["object"];
        assert_eq!(
            (&invoice["subscription"], &invoice["paid"], invoice.get("parent")),
            (&json!(id), &json!(true), None)
        );
        let charge = simulator.object(objects::text(invoice, "charge")).expect("a charge");
        assert_eq!(charge["payment_intent"], invoice["payment_intent"]);
        let draft = &shape_event(created, version)["data"]["object"];
        assert_eq!(
            (&draft["paid"], &draft["charge"], &draft["payment_intent"]),
            (&json!(false), &Value::Null, &Value::Null)
        );
    }
    let moved = shape_event(paid, "2025-03-31");
    assert_eq!(
        (&moved["api_version"], &moved["data"]),
        (&json!("2025-03-31.basil"), &paid["data"])
    );
    assert_eq!(shape_event(paid, API_VERSION), *paid);

    simulator.set_event_version("2024-06-20");
    simulator.cancel(&id).expect("canceled");
    let event = simulator.events().pop().expect("an event");
    assert_eq!(
        (&event["api_version"], &event["data"]["object"]["current_period_end"]),
        (&json!("2024-06-20"), &json!(second("2027-03-31T10:00:00Z")))
    );
    assert!(
        field(&simulator, &id, "/current_period_end").is_null(),
        "the API answers in its own version"
    );
}
