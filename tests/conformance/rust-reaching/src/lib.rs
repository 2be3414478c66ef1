//! Reaches out as the first word of the body says, so that one set of tests serves every language.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sandhog_guest::{
    Failure, Message, Outgoing, config,
    http::{Client, HttpError, Request, RequestBody, send_all},
    keyvalue, send,
};

sandhog_guest::handler!(handle);

fn handle(message: Message) -> Result<(), Failure> {
    let words: Vec<_> = message.text()?.split(' ').collect();
    let answer = obey(&words)?;
    if !answer.is_empty() {
        send("out", Outgoing::new(answer))?;
    }
    Ok(())
}

fn obey(words: &[&str]) -> Result<String, Failure> {
    let store = keyvalue::open("default")?;
    match *words {
        ["get", url] => Ok(request(&Client::new(), Request::get(url).body(())?)),
        ["late", url, milliseconds] => {
            let timeout = Duration::from_millis(number(milliseconds)?);
            Ok(request(&Client::new().timeout(timeout), Request::get(url).body(())?))
        }
        ["post", url, length] => {
            let body = vec![b'x'; usize::try_from(number(length)?).unwrap()];
            Ok(request(&Client::new(), Request::post(url).body(body)?))
        }
        ["many", url, times] => {
            let mut good = 0;
            for _ in 0..number(times)? {
                good += usize::from(sandhog_guest::http::send(Request::get(url).body(())?)?.status() == 200);
            }
            Ok(good.to_string())
        }
        ["together", url, times] => {
            let requests = (0..number(times)?).map(|_| Request::get(url).body(()));
            let answers = send_all(requests.collect::<Result<Vec<_>, _>>()?);
            let good = answers.into_iter().filter_map(Result::ok).filter(|answer| answer.status() == 200);
            Ok(good.count().to_string())
        }
        ["set", key, value] => {
            store.set(key, value)?;
            Ok(String::new())
        }
        ["lose", key, value] => {
            store.set(key, value)?;
            Err(Failure::retry("lost"))
        }
        ["read", key] => Ok(store.get_text(key)?.unwrap_or_else(|| "nothing".to_owned())),
        ["count", key] => Ok(store.increment(key, 1)?.to_string()),
        ["swap", key, expected, value] => {
            let expected = (expected != "-").then_some(expected.as_bytes());
            Ok(store.compare_and_set(key, expected, value)?.to_string())
        }
        ["keys", prefix] => {
            let keys: Result<Vec<_>, _> = store.keys_with_prefix(prefix).collect();
            Ok(keys?.join(" "))
        }
        ["config", name] => Ok(config::get(name).unwrap_or_else(|| "nothing".to_owned())),
        ["env", name] => Ok(std::env::var(name).unwrap_or_else(|_| "nothing".to_owned())),
        ["clock"] => Ok(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().to_string()),
        ["random"] => Ok(RandomState::new().hash_one(0).to_string()),
        ["file", path] => Ok(std::fs::read_to_string(path).unwrap_or_else(|_| "nothing".to_owned())),
        _ => panic!("told to crash"),
    }
}

fn number(word: &str) -> Result<u64, Failure> {
    word.parse().map_err(|_| Failure::reject("no number"))
}

fn request<B: RequestBody>(client: &Client, request: Request<B>) -> String {
    let answer = client.send(request).and_then(|answer| {
        let status = answer.status().as_u16();
        let text = answer.into_body().text()?;
        Ok(if text.len() > 20 { format!("{status} {}", text.len()) } else { format!("{status} {text}") })
    });
    match answer {
        Ok(answer) => answer,
        Err(HttpError::NotGranted(_)) => "not-granted".to_owned(),
        Err(HttpError::Timeout(_)) => "timeout".to_owned(),
        Err(HttpError::Connection(_)) => "connection".to_owned(),
        Err(other) => other.to_string(),
    }
}
