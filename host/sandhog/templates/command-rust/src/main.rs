//! Totals an order: each line of standard input is a price and a quantity, standard output gets the total.

use std::io::Read;
use std::process::ExitCode;

/// The input will never be right: the message becomes a dead letter, with the last line of standard error as the reason.
const BAD_INPUT: u8 = 65;
/// It may be right later: the message is retried.
const TRY_LATER: u8 = 75;

fn main() -> ExitCode {
    let mut order = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut order) {
        eprintln!("the order can't be read: {error}");
        return ExitCode::from(BAD_INPUT);
    }
    if order.trim().is_empty() {
        eprintln!("the order has no items yet");
        return ExitCode::from(TRY_LATER);
    }
    match total(&order) {
        Ok(total) => {
            println!("{total:.2}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn total(order: &str) -> Result<f64, String> {
    let mut total = 0.0;
    for (index, line) in order.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok([price, quantity]) if (price * quantity).is_finite() => total += price * quantity,
            _ => return Err(format!("line {} is not a price and a quantity", index + 1)),
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn an_order_is_totalled() {
        assert_eq!(total("12.50 2\n3 1\n"), Ok(28.0));
    }

    #[test]
    fn a_line_that_is_no_item_is_named() {
        for order in ["12.50 2\nspade\n", "12.50 2\n3\n", "1 1\n1 2 3\n", "1 1\n1 inf\n"] {
            assert_eq!(total(order), Err("line 2 is not a price and a quantity".to_owned()));
        }
    }
}
