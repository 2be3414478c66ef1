//! The two macros that make a function a component's handler.

/// Makes a function the handler of this component: it is called once for every message received.
///
/// The function is a `fn(Message) -> Result<(), Failure>`. Write this once, anywhere in the crate.
/// In a native build, the macro only checks the function's type, so that a handler crate runs its
/// unit tests like any other.
///
/// # Examples
///
/// ```
/// use sandhog_guest::{Failure, Message, Outgoing, send};
///
/// sandhog_guest::handler!(handle);
///
/// fn handle(message: Message) -> Result<(), Failure> {
///     let name: String = message.json()?;
///     send("greetings", Outgoing::json(&format!("Hello, {name}!"))?)?;
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! handler {
    ($handle:path) => {
        const _: () = {
            const HANDLE: fn($crate::Message) -> ::core::result::Result<(), $crate::Failure> = $handle;
            // Checked, and used, in a native build as well.
            const _: fn($crate::Message) -> ::core::result::Result<(), $crate::Failure> = HANDLE;

            #[cfg(target_family = "wasm")]
            const _: () = {
                struct Handler;

                impl $crate::__private::worker::exports::sandhog::worker::handler::Guest for Handler {
                    fn handle(
                        message: $crate::__private::types::Message,
                    ) -> ::core::result::Result<(), $crate::__private::types::Failure> {
                        $crate::__private::handle(HANDLE, message)
                    }
                }

        $crate::__private::worker::__export_worker!(Handler with_types_in $crate::__private::worker);
            };
        };
    };
}

/// Makes a function the batch handler of this component: it is called with several messages at a time.
///
/// The function is a `fn(Vec<Message>) -> Vec<Result<(), Failure>>` and returns one result per
/// message, in the order of the messages; any other number fails every message. A batch never holds
/// two messages of one group. What it sends belongs to the messages that succeeded.
///
/// # Examples
///
/// ```
/// use sandhog_guest::{Failure, Message};
///
/// sandhog_guest::batch_handler!(handle_batch);
///
/// fn handle_batch(messages: Vec<Message>) -> Vec<Result<(), Failure>> {
///     let rows: Vec<Result<u64, Failure>> = messages.iter().map(Message::json).collect();
///     let total: u64 = rows.iter().flatten().sum();
///     # assert_eq!(total, 0);
///     rows.into_iter().map(|row| row.map(|_| ())).collect()
/// }
/// ```
#[macro_export]
macro_rules! batch_handler {
    ($handle:path) => {
        const _: () = {
            const HANDLE: fn(
                ::std::vec::Vec<$crate::Message>,
            ) -> ::std::vec::Vec<::core::result::Result<(), $crate::Failure>> = $handle;
            // Checked, and used, in a native build as well.
            const _: fn(
                ::std::vec::Vec<$crate::Message>,
            ) -> ::std::vec::Vec<::core::result::Result<(), $crate::Failure>> = HANDLE;

            #[cfg(target_family = "wasm")]
            const _: () = {
                struct Handler;

                impl $crate::__private::batch_worker::exports::sandhog::worker::batch_handler::Guest for Handler {
                    fn handle_batch(
                        messages: ::std::vec::Vec<$crate::__private::types::Message>,
                    ) -> ::std::vec::Vec<::core::result::Result<(), $crate::__private::types::Failure>> {
                        $crate::__private::handle_batch(HANDLE, messages)
                    }
                }

                $crate::__private::batch_worker::__export_batch_worker!(
                    Handler with_types_in $crate::__private::batch_worker
                );
            };
        };
    };
}
