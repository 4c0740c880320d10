//! Panics of code that is not ours to make right: a user's environment, a driver whose device is lost.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; a panic in it is its message.
///
/// What `work` was changing may be half changed: the caller uses it no further, or knows that it is whole.
///
/// # Errors
/// The panic's message.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| message(payload.as_ref()))
}

/// The message of a panic, on one line.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&'static str>().copied());
    text.unwrap_or("it gives no message").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        assert_eq!(catch(|| 3), Ok(3));
        assert_eq!(catch(|| panic!("no:\n{}", 4)), Err::<(), _>("no: 4".to_owned()));
        assert_eq!(catch(|| std::panic::panic_any(7)), Err("it gives no message".to_owned()));
    }
}
