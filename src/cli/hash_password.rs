//! `ioc-watch hash-password`: reads a password (from the terminal without showing it, twice; or the first line of what is
//! piped in) and prints its hash for `users_file`.

use crate::config::users;
use anyhow::{Context, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use unicode_normalization::UnicodeNormalization;

#[derive(clap::Args)]
pub struct HashPassword {}

/// Shorter ones are guessed; longer ones are a mistake (a whole file piped in). In characters.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=256;

impl HashPassword {
    pub fn run(&self) -> ExitCode {
        match read().and_then(|password| hash(&password)) {
            Ok(hash) => {
                println!("{hash}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn hash(password: &str) -> anyhow::Result<String> {
    // What one keyboard writes composed and another decomposed is the same password.
    let password: String = password.nfc().collect();
    let length = password.chars().count();
    ensure!(
        LENGTH.contains(&length),
        "a password has from {} to {} characters, this one has {length}",
        LENGTH.start(),
        LENGTH.end()
    );
    ensure!(!password.contains(char::is_control), "a password has no control characters");
    Ok(users::hash_password(&password)?)
}

fn read() -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !isatty(&stdin) {
        return line(&mut stdin.lock());
    }
    let silence = Silence::begin()?;
    let first = ask("Password: ")?;
    let second = ask("The same again: ")?;
    drop(silence);
    if first != second {
        bail!("the two differ");
    }
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<String> {
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let password = line(&mut std::io::stdin().lock());
    eprintln!();
    password
}

fn line(input: &mut impl BufRead) -> anyhow::Result<String> {
    const MAX: u64 = 64 * 1024;
    let mut text = String::new();
    input.take(MAX).read_line(&mut text).context("reading the password")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// The terminal does not show what is typed, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> anyhow::Result<Silence> {
        let before = tcgetattr(std::io::stdin()).context("asking the terminal")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).context("silencing the terminal")?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // If the terminal is gone there is nobody to show anything to.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_read_without_their_newline_and_normalised() {
        let rows: [(&str, &str); 3] =
            [("mật khẩu\nrest\n", "mật khẩu"), ("mật khẩu\r\n", "mật khẩu"), ("no end", "no end")];
        for (input, expected) in rows {
            assert_eq!(line(&mut input.as_bytes()).unwrap(), expected);
        }
        let decomposed: String = "mật khẩu".nfd().collect();
        assert!(users::verify("mật khẩu", &crate::config::Secret::new(hash(&decomposed).unwrap())));
        for bad in ["", "short", "a\tcontrol character", &"x".repeat(257)] {
            assert!(hash(bad).is_err(), "{bad}");
        }
    }
}
