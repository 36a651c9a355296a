//! The clock that the functions decide by. On a local stack it shows what a file says, so that a
//! developer can move it (docs/adr/0018-business-time.md); a release has no such door.

use crate::Result;
use crate::base::clock::Clock;
use crate::process::config::Env;

/// The clock of a function's rules. What outside systems judge (tokens, signatures, TLS) and what
/// tells of this process (logs, metrics, time-outs) takes [`Clock::system`].
///
/// # Errors
/// `Setting` if `BUSINESS_TIME_FILE` is set outside a local stack, or has no time.
pub fn clock(env: &Env) -> Result<Clock> {
    #[cfg(debug_assertions)]
    if let Some(file) = env.optional("BUSINESS_TIME_FILE")? {
        if !super::config::is_rehearsal(env)? {
            return Err(crate::Error::Setting(
                "BUSINESS_TIME_FILE is set, and STAGE is not local or test".to_owned(),
            ));
        }
        return moved::follow(file.into());
    }
    let _ = env;
    Ok(Clock::system())
}

/// Time as a file says it. It is read at each look: that costs microseconds, and never shows what
/// was true before.
pub mod moved {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};
    use std::{fs, io};

    use crate::base::clock::{BusinessTime, Clock};
    use crate::{Error, Result};

    /// A clock that shows what the file says.
    ///
    /// # Errors
    /// `Setting` if the file is there and has no time.
    pub fn follow(file: PathBuf) -> Result<Clock> {
        let last = Mutex::new(read(&file)?);
        Ok(Clock::from_fn(move || {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that cannot be read must not throw a running function back to today.
            *last = read(&file).unwrap_or(*last);
            last.now()
        }))
    }

    /// What the file says; without a file, time is where the machine has it.
    ///
    /// # Errors
    /// `Setting` if it has no time.
    pub fn read(file: &Path) -> Result<BusinessTime> {
        let fault = |error: &dyn std::fmt::Display| {
            Error::Setting(format!("BUSINESS_TIME_FILE {}: {error}", file.display()))
        };
        match fs::read_to_string(file) {
            Ok(text) => text.parse().map_err(|error: jiff::Error| fault(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BusinessTime::UNMOVED),
            Err(error) => Err(fault(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use jiff::SignedDuration;

    use super::*;
    use crate::base::clock::BusinessTime;

    fn file(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("pulse-time-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder.join(name)
    }

    fn env(stage: Option<&str>, file: &std::path::Path) -> Env {
        let file = ("BUSINESS_TIME_FILE".to_owned(), file.display().to_string());
        let stage = stage.map(|stage| ("STAGE".to_owned(), stage.to_owned()));
        Env::of([file].into_iter().chain(stage).collect())
    }

    #[test]
    fn a_clock_follows_its_file_at_once_and_keeps_the_last_time_that_it_could_read() {
        let file = file("followed");
        let clock = clock(&env(Some("local"), &file)).expect("a clock");
        let system = || Clock::system().now();
        assert!(clock.now().duration_since(system()).abs() < SignedDuration::from_secs(1));
        let held = BusinessTime::Held("2031-05-06T07:08:09.5Z".parse().expect("an instant"));
        std::fs::write(&file, held.to_string()).expect("written");
        assert_eq!(clock.now(), held.now());
        std::fs::write(&file, "tomorrow").expect("written");
        assert_eq!(clock.now(), held.now());
        let year = SignedDuration::from_hours(365 * 24);
        std::fs::write(&file, BusinessTime::Ahead(year).to_string()).expect("written");
        let ahead = clock.now().duration_since(system());
        assert!((ahead - year).abs() < SignedDuration::from_secs(1), "{ahead}");
        let began = Instant::now();
        let last = (0..1_000).map(|_| clock.now()).max();
        assert!(last.is_some());
        let look = began.elapsed() / 1_000;
        assert!(look < Duration::from_micros(500), "a look costs {look:?}");
    }

    #[test]
    fn a_file_that_has_no_time_keeps_a_function_from_starting() {
        let file = file("wrong");
        std::fs::write(&file, "held tomorrow").expect("written");
        let error = clock(&env(Some("local"), &file)).err().expect("refused").to_string();
        assert!(error.contains("BUSINESS_TIME_FILE") && error.contains("wrong"), "{error}");
    }

    #[test]
    fn only_a_local_or_test_stage_has_a_time_of_its_own() {
        let file = file("stages");
        let held = BusinessTime::Held("2031-05-06T07:08:09Z".parse().expect("an instant"));
        std::fs::write(&file, held.to_string()).expect("written");
        for stage in [Some("local"), Some("test")] {
            assert_eq!(clock(&env(stage, &file)).expect("a clock").now(), held.now(), "{stage:?}");
        }
        for stage in [None, Some("dev"), Some("staging"), Some("prod"), Some("Local")] {
            let error = clock(&env(stage, &file)).err().expect("refused").to_string();
            assert_eq!(error, "BUSINESS_TIME_FILE is set, and STAGE is not local or test");
        }
    }
}
