//! Sends the invoice of an order to an API, once, and its total to a queue.

#![expect(clippy::needless_pass_by_value, reason = "a handler owns its message")]

use std::time::Duration;

use sandhog_guest::http::{self, header};
use sandhog_guest::{Failure, Message, Outgoing, config, keyvalue, send};
use serde::Deserialize;
use serde_json::json;

sandhog_guest::handler!(handle);

#[derive(Deserialize)]
struct Order {
    id: String,
    email: String,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    price: f64,
    quantity: f64,
}

fn handle(message: Message) -> Result<(), Failure> {
    let order: Order = message.json()?;
    let store = keyvalue::open("default")?;
    if store.exists(&order.id)? {
        return Ok(());
    }
    let total: f64 = order.items.iter().map(|item| item.price * item.quantity).sum();
    let invoice = http::Request::post(format!("{}/invoices", config::require("api")?))
        .header(header::AUTHORIZATION, format!("Bearer {}", config::require("token")?))
        .body(http::Json(
            json!({ "order": order.id, "email": order.email, "total": total }),
        ))?;
    // A redirect that is followed makes a GET of it, whose success is no invoice.
    let client = http::Client::new().timeout(Duration::from_secs(5)).redirects(0);
    let answer = client.send(invoice)?;
    match answer.status().as_u16() {
        200..=299 => {}
        status @ (429 | 500..) => return Err(http::retry(&answer, format!("the API answers {status}"))),
        status => return Err(Failure::reject(format!("the API answers {status}"))),
    }
    store.set(&order.id, "")?;
    store.increment("handled", 1)?;
    send("totals", Outgoing::json(&json!({ "id": order.id, "total": total }))?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sandhog_guest::http::HttpError;
    use sandhog_guest::testing;

    use super::*;

    fn handle_order(answer: impl Into<testing::Answer>) -> Result<(), Failure> {
        let answer = answer.into();
        testing::answer(move |_| answer.clone());
        testing::config([("api", "https://api.example"), ("token", "secret")]);
        let order = r#"{"id": "A7", "email": "a@b.example", "items": [{"price": 2.5, "quantity": 2}]}"#;
        handle(testing::message(order).build())
    }

    #[test]
    fn an_order_is_invoiced_once() {
        testing::store([("handled", "41")]);
        assert_eq!(handle_order(testing::response(201, "")), Ok(()));
        assert_eq!(handle_order(testing::response(201, "")), Ok(()));
        let requests = testing::requests();
        let [request] = requests.as_slice() else {
            panic!("not one request: {requests:?}");
        };
        assert_eq!(request.uri(), "https://api.example/invoices");
        assert_eq!(request.headers()["authorization"], "Bearer secret");
        assert_eq!(request.body(), br#"{"email":"a@b.example","order":"A7","total":5.0}"#);
        let stored = testing::stored();
        assert_eq!(
            (stored["handled"].as_slice(), stored["A7"].as_slice()),
            (b"42".as_slice(), b"".as_slice())
        );
        assert_eq!(testing::sent()[0].message.body, br#"{"id":"A7","total":5.0}"#);
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        testing::store([("handled", "0")]);
        let busy = testing::response(429, "").header("retry-after", "7");
        assert_eq!(
            handle_order(busy),
            Err(Failure::retry_after(Duration::from_secs(7), "the API answers 429"))
        );
        assert_eq!(
            handle_order(testing::response(503, "")),
            Err(Failure::retry("the API answers 503"))
        );
        let late = HttpError::Timeout("too late".to_owned());
        assert_eq!(handle_order(late), Err(Failure::retry("too late")));
        assert!(!testing::stored().contains_key("A7") && testing::sent().is_empty());
    }

    #[test]
    fn what_the_server_refuses_is_rejected() {
        testing::store([("handled", "0")]);
        assert_eq!(
            handle_order(testing::response(422, "")),
            Err(Failure::reject("the API answers 422"))
        );
        let moved = testing::response(302, "").header("location", "https://api.example.com/invoices");
        assert_eq!(handle_order(moved), Err(Failure::reject("the API answers 302")));
    }
}
