//! Totals orders, and sends the totals to a queue.

use sandhog_guest::{AttributeValue, Failure, Level, Message, Outgoing, log, send};
use serde::Deserialize;
use serde_json::json;

sandhog_guest::handler!(handle);

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
    let total: f64 = order.items.iter().map(|item| item.price * item.quantity).sum();
    let items = order.items.len();
    let outgoing = Outgoing::json(&json!({ "id": order.id, "total": total }))?;
    send("totals", outgoing.attribute("items", AttributeValue::number(items.to_string())))?;
    log(Level::Info, format_args!("order {}: {items} items, {total} in total", order.id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use sandhog_guest::testing;

    use super::*;

    #[test]
    fn an_order_is_totalled() {
        let body = r#"{"id": 7, "items": [{"price": 2.5, "quantity": 2}, {"price": 1, "quantity": 3}]}"#;
        handle(testing::message(body).build()).unwrap();
        let sent = testing::sent();
        assert_eq!(sent[0].queue, "totals");
        assert_eq!(sent[0].message.body, br#"{"id":7,"total":8.0}"#);
    }

    #[test]
    fn what_is_no_order_is_rejected() {
        let failure = handle(testing::message("no order").build()).unwrap_err();
        assert!(matches!(failure, Failure::Reject(_)), "{failure:?}");
        assert!(testing::sent().is_empty());
    }
}
