//! Does what the lines of its message say, all at once, and sends what came of them to queue `out`, a line each, in their order.
//!
//! | line | means |
//! | --- | --- |
//! | `get URL` | a request; its status comes of it, or `failed` |
//! | `wait MS` | waits |
//! | `compute ROUNDS` | computes |
//! | `behind MS` | starts a task that waits and then sends `late`, and goes on without it |
//! | `reject` `trap` | fails |

#[path = "bindings/async_worker.rs"]
mod bindings;

use bindings::{
    exports::sandhog::worker::async_handler::{Failure, Guest, Message},
    sandhog::worker::sender::{Outgoing, send},
};
use futures::future::try_join_all;
use wasip3::{
    clocks::monotonic_clock::wait_for,
    http::{
        client,
        types::{Fields, Request, Scheme},
    },
    wit_future,
};

struct Component;

bindings::export!(Component with_types_in bindings);

impl Guest for Component {
    async fn handle(message: Message) -> Result<(), Failure> {
        let body = String::from_utf8(message.body).unwrap();
        let answers = try_join_all(body.lines().map(answer)).await?;
        send_on(&answers.join("\n"));
        Ok(())
    }
}

async fn answer(line: &str) -> Result<String, Failure> {
    let (does, rest) = line.split_once(' ').unwrap_or((line, ""));
    match does {
        "get" => Ok(get(rest).await),
        "wait" => {
            wait(rest).await;
            Ok("waited".to_owned())
        }
        "compute" => Ok(compute(rest)),
        "behind" => {
            let rest = rest.to_owned();
            wit_bindgen::spawn_local(async move {
                wait(&rest).await;
                send_on("late");
            });
            Ok("went on".to_owned())
        }
        "reject" => Err(Failure::Reject("as I was told".to_owned())),
        _ => panic!("{does} is no command"),
    }
}

#[inline(never)]
fn compute(rounds: &str) -> String {
    let mut state = 1_u32;
    for round in 0..rounds.parse::<u32>().unwrap() {
        state = std::hint::black_box(state.wrapping_mul(1_664_525) ^ round);
    }
    state.to_string()
}

async fn wait(ms: &str) {
    wait_for(ms.parse::<u64>().unwrap() * 1_000_000).await;
}

async fn get(url: &str) -> String {
    let (authority, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, no_trailers, None);
    drop(trailers);
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(&format!("/{path}"))).unwrap();
    match client::send(request).await {
        Ok(response) => response.get_status_code().to_string(),
        Err(_) => "failed".to_owned(),
    }
}

fn send_on(body: &str) {
    let message = Outgoing {
        body: body.as_bytes().to_vec(),
        attributes: Vec::new(),
        delay_seconds: None,
        group_id: None,
        deduplication_id: None,
        priority: None,
    };
    send("out", &message).unwrap();
}
