//! Validates orders and turns each into an invoice.
//!
//! The body is an order in JSON, with amounts in cents. An invoice goes to the queue `invoices`, once
//! per order id. An order with mistakes becomes a dead letter that names all of them; an order for a
//! warehouse that is offline is tried again.

use std::time::Duration;

use sandhog_guest::{Failure, Message, Outgoing, send};
use serde::{Deserialize, Serialize};

/// The most pieces of one item.
const QUANTITY_MAX: u32 = 1_000;
const CURRENCIES: [&str; 4] = ["CHF", "EUR", "GBP", "USD"];
/// How long a warehouse that is offline is left alone.
const OFFLINE_DELAY: Duration = Duration::from_secs(1);
/// From this receive on, the warehouse is taken to be back. It stands for asking the warehouse.
const ONLINE_AGAIN: u32 = 3;

sandhog_guest::handler!(handle);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: String,
    customer: Customer,
    currency: String,
    items: Vec<Item>,
    total_cents: u64,
    #[serde(default)]
    warehouse: Warehouse,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Customer {
    name: String,
    email: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    sku: String,
    quantity: u32,
    unit_cents: u64,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Warehouse {
    #[default]
    Online,
    Offline,
}

#[derive(Serialize)]
struct Invoice<'a> {
    invoice: String,
    order: &'a str,
    customer: &'a Customer,
    currency: &'a str,
    lines: Vec<Line<'a>>,
    total_cents: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    sku: &'a str,
    quantity: u32,
    unit_cents: u64,
    line_cents: u64,
}

fn handle(message: Message) -> Result<(), Failure> {
    let order: Order = message.json()?;
    let mistakes = order.mistakes();
    if !mistakes.is_empty() {
        return Err(Failure::reject(format!(
            "order {:?}: {}",
            order.id,
            mistakes.join("; ")
        )));
    }
    if order.warehouse == Warehouse::Offline && message.receive_count < ONLINE_AGAIN {
        return Err(Failure::retry_after(
            OFFLINE_DELAY,
            format!("order {:?}: the warehouse is offline", order.id),
        ));
    }
    let invoice = Outgoing::json(&order.invoice())?
        .attribute("order", order.id.as_str())
        .attribute("total-cents", order.total_cents)
        .deduplication_id(order.id.as_str());
    send("invoices", invoice)?;
    Ok(())
}

impl Item {
    /// Returns the price of all pieces, or `None` if it is more than a `u64` holds.
    fn line_cents(&self) -> Option<u64> {
        self.unit_cents.checked_mul(u64::from(self.quantity))
    }

    /// Returns the invoice's line for an item of an order without mistakes.
    fn line(&self) -> Line<'_> {
        let line_cents = self.line_cents().expect("an order without mistakes adds up");
        Line {
            sku: &self.sku,
            quantity: self.quantity,
            unit_cents: self.unit_cents,
            line_cents,
        }
    }
}

impl Order {
    /// Returns everything that is wrong with the order, so that it takes one round to put right.
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.id.trim().is_empty() {
            mistakes.push("id is empty".to_owned());
        }
        if self.customer.name.trim().is_empty() {
            mistakes.push("customer.name is empty".to_owned());
        }
        if !is_email(&self.customer.email) {
            mistakes.push(format!("customer.email {:?} is not an address", self.customer.email));
        }
        if !CURRENCIES.contains(&self.currency.as_str()) {
            mistakes.push(format!(
                "currency {:?} is not one of {}",
                self.currency,
                CURRENCIES.join(", ")
            ));
        }
        if self.items.is_empty() {
            mistakes.push("items is empty".to_owned());
        }
        for (n, item) in self.items.iter().enumerate() {
            if item.sku.trim().is_empty() {
                mistakes.push(format!("items[{n}].sku is empty"));
            }
            if !(1..=QUANTITY_MAX).contains(&item.quantity) {
                mistakes.push(format!(
                    "items[{n}].quantity is {}, not 1 to {QUANTITY_MAX}",
                    item.quantity
                ));
            }
        }
        match self
            .items
            .iter()
            .try_fold(0_u64, |sum, item| sum.checked_add(item.line_cents()?))
        {
            Some(sum) if sum == self.total_cents => {}
            Some(sum) => mistakes.push(format!("total_cents is {}, the items make {sum}", self.total_cents)),
            None => mistakes.push("the items make more than can be paid".to_owned()),
        }
        mistakes
    }

    /// Returns the invoice of an order without mistakes.
    fn invoice(&self) -> Invoice<'_> {
        Invoice {
            invoice: format!("INV-{}", self.id),
            order: &self.id,
            customer: &self.customer,
            currency: &self.currency,
            lines: self.items.iter().map(Item::line).collect(),
            total_cents: self.total_cents,
        }
    }
}

/// Tells what cannot be an address. Only a letter to it tells what is one.
fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && domain.contains('.')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !text.contains(char::is_whitespace)
            && !domain.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_guest::testing;

    fn handled(body: &[u8], receive_count: u32) -> Result<(), Failure> {
        handle(testing::message(body).receive_count(receive_count).build())
    }

    #[test]
    fn a_good_order_becomes_an_invoice() {
        handled(include_bytes!("../input/garden.json"), 1).unwrap();
        let sent = testing::sent().pop().unwrap();
        assert_eq!(
            (sent.queue.as_str(), sent.message.deduplication_id.as_deref()),
            ("invoices", Some("A-1001"))
        );
        let invoice: serde_json::Value = serde_json::from_slice(&sent.message.body).unwrap();
        assert_eq!(
            (&invoice["invoice"], &invoice["total_cents"]),
            (&"INV-A-1001".into(), &9_470.into())
        );
        assert_eq!(invoice["lines"][1]["line_cents"], 4_490);
    }

    #[test]
    fn every_mistake_of_an_order_is_named() {
        let failure = handled(include_bytes!("../input/mistakes.json"), 1).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "reject: order \"A-1003\": customer.email \"bob(at)example.com\" is not an address; currency \"EURO\" is \
             not one of CHF, EUR, GBP, USD; items[1].quantity is 0, not 1 to 1000; total_cents is 5000, the items make 4990"
        );
    }

    #[test]
    fn an_order_cut_short_is_rejected_with_the_place() {
        let failure = handled(include_bytes!("../input/cut-short.json"), 1).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "reject: the body is not the JSON expected: EOF while parsing a value at line 7 column 0"
        );
    }

    #[test]
    fn an_offline_warehouse_is_tried_again_until_it_is_back() {
        let body = include_bytes!("../input/warehouse-offline.json");
        for receive_count in 1..ONLINE_AGAIN {
            let failure = handled(body, receive_count).unwrap_err();
            assert!(
                matches!(
                    failure,
                    Failure::RetryAfter {
                        delay: OFFLINE_DELAY,
                        ..
                    }
                ),
                "{failure}"
            );
        }
        assert_eq!(handled(body, ONLINE_AGAIN), Ok(()));
    }

    #[test]
    fn an_amount_beyond_reason_is_a_mistake_and_no_panic() {
        let body = br#"{"id": "A", "customer": {"name": "n", "email": "a@b.c"}, "currency": "EUR",
            "items": [{"sku": "s", "quantity": 1000, "unit_cents": 18446744073709551615}], "total_cents": 1}"#;
        let failure = handled(body, 1).unwrap_err();
        assert_eq!(
            failure,
            Failure::reject("order \"A\": the items make more than can be paid")
        );
    }
}
