//! Totals orders, and sends the totals to a queue.
{{with http}}
//! An API gets each of them, too.
{{end}}

{{with http}}
use std::time::Duration;

{{end}}
{{with config}}
use sandhog_guest::config;
{{end}}
{{with http config}}
use sandhog_guest::http::{self, header};
{{end}}
{{with http without config}}
use sandhog_guest::http;
{{end}}
{{with keyvalue}}
use sandhog_guest::keyvalue;
{{end}}
use sandhog_guest::{AttributeValue, Failure, Level, Message, Outgoing, log, send};
use serde::Deserialize;
{{without http}}
use serde_json::json;
{{end}}
{{with http}}
use serde_json::{Value, json};
{{end}}

sandhog_guest::handler!(handle);

{{with http without config}}
/// The manifest grants it.
const API: &str = "https://api.example.com";

{{end}}
#[derive(Deserialize)]
struct Order {
    id: serde_json::Value,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    price: f64,
    quantity: f64,
}

fn handle(message: Message) -> Result<(), Failure> {
    // A body that is no order is rejected: it becomes a dead letter at once.
    let order: Order = message.json()?;
{{with keyvalue}}
    // What is written is kept if the handler succeeds, and dropped if it fails.
    let store = keyvalue::open("default")?;
    if !store.compare_and_set(&format!("order/{}", order.id), None, "sent")? {
        log(Level::Info, format_args!("order {} was sent before", order.id));
        return Ok(());
    }
{{end}}
    let total: f64 = order.items.iter().map(|item| item.price * item.quantity).sum();
    let items = order.items.len();
{{without http config}}
    let outgoing = Outgoing::json(&json!({ "id": order.id, "total": total }))?;
{{end}}
{{with config without http}}
    let currency = config::require("currency")?;
    let outgoing = Outgoing::json(&json!({ "id": order.id, "total": total, "currency": currency }))?;
{{end}}
{{with http}}
    let body = json!({ "id": order.id, "total": total });
    post(&body, &message.id)?;
    let outgoing = Outgoing::json(&body)?;
{{end}}
    send("totals", outgoing.attribute("items", AttributeValue::number(items.to_string())))?;
    log(Level::Info, format_args!("order {}: {items} items, {total} in total", order.id));
    Ok(())
}

{{with http}}
/// Sends a total to the API. It can come twice, from an attempt that failed later: the key tells the API so.
fn post(body: &Value, key: &str) -> Result<(), Failure> {
{{end}}
{{with http config}}
    let request = http::Request::post(format!("{}/totals", config::require("api")?))
        .header(header::AUTHORIZATION, format!("Bearer {}", config::require("token")?))
{{end}}
{{with http without config}}
    let request = http::Request::post(format!("{API}/totals"))
{{end}}
{{with http}}
        .header("idempotency-key", key)
        .body(http::Json(body))?;
    // A redirect that is followed makes a GET of it, whose success is none.
    let client = http::Client::new().timeout(Duration::from_secs(5)).redirects(0);
    let answer = client.send(request)?;
    if !answer.status().is_success() {
        // After as long as the header retry-after says, which a busy API sends with the status 429.
        return Err(http::retry(&answer, format!("the API answers {}", answer.status())));
    }
    Ok(())
}

{{end}}
#[cfg(test)]
mod tests {
    use sandhog_guest::testing;

    use super::*;

{{with any}}
    const ORDER: &str = r#"{"id": 7, "items": [{"price": 2.5, "quantity": 2}, {"price": 1, "quantity": 3}]}"#;

    /// Grants what the manifest grants.
    fn grant() {
{{end}}
{{with keyvalue}}
        testing::store::<&str, &str>([]);
{{end}}
{{with config without http}}
        testing::config([("currency", "EUR")]);
{{end}}
{{with http}}
        testing::answer(|_request| testing::response(201, ""));
{{end}}
{{with http config}}
        testing::config([("api", "https://api.example.com"), ("token", "secret")]);
{{end}}
{{with any}}
    }

{{end}}
    #[test]
    fn an_order_is_totalled() {
{{without any}}
        let body = r#"{"id": 7, "items": [{"price": 2.5, "quantity": 2}, {"price": 1, "quantity": 3}]}"#;
        handle(testing::message(body).build()).unwrap();
{{end}}
{{with any}}
        grant();
        handle(testing::message(ORDER).build()).unwrap();
{{end}}
        let sent = testing::sent();
        assert_eq!(sent[0].queue, "totals");
{{without config}}
        assert_eq!(sent[0].message.body, br#"{"id":7,"total":8.0}"#);
{{end}}
{{with config http}}
        assert_eq!(sent[0].message.body, br#"{"id":7,"total":8.0}"#);
{{end}}
{{with config without http}}
        assert_eq!(sent[0].message.body, br#"{"currency":"EUR","id":7,"total":8.0}"#);
{{end}}
    }

    #[test]
    fn what_is_no_order_is_rejected() {
        let failure = handle(testing::message("no order").build()).unwrap_err();
        assert!(matches!(failure, Failure::Reject(_)), "{failure:?}");
        assert!(testing::sent().is_empty());
    }
{{with keyvalue}}

    #[test]
    fn an_order_that_comes_twice_is_sent_once() {
        grant();
        handle(testing::message(ORDER).build()).unwrap();
        handle(testing::message(ORDER).build()).unwrap();
        assert_eq!(testing::sent().len(), 1);
    }
{{end}}
{{with http}}

    #[test]
    fn a_total_is_posted_to_the_api() {
        grant();
        handle(testing::message(ORDER).id("m1").build()).unwrap();
        let requests = testing::requests();
        assert_eq!(requests[0].uri(), "https://api.example.com/totals");
        assert_eq!(requests[0].headers()["idempotency-key"], "m1");
        assert_eq!(requests[0].body(), br#"{"id":7,"total":8.0}"#);
    }

    #[test]
    fn a_busy_api_is_asked_again_when_it_says() {
        grant();
        testing::answer(|_request| testing::response(429, "").header("retry-after", "30"));
        let failure = handle(testing::message(ORDER).build()).unwrap_err();
        let reason = "the API answers 429 Too Many Requests";
        assert_eq!(failure, Failure::retry_after(Duration::from_secs(30), reason));
        assert!(testing::sent().is_empty());
    }
{{end}}
{{with http config}}

    #[test]
    fn the_api_gets_the_token() {
        grant();
        handle(testing::message(ORDER).build()).unwrap();
        assert_eq!(testing::requests()[0].headers()["authorization"], "Bearer secret");
    }
{{end}}
{{with config without http}}

    #[test]
    fn the_currency_is_that_of_the_manifest() {
        grant();
        testing::config([("currency", "CHF")]);
        handle(testing::message(ORDER).build()).unwrap();
        assert_eq!(testing::sent()[0].message.body, br#"{"currency":"CHF","id":7,"total":8.0}"#);
    }
{{end}}
}
