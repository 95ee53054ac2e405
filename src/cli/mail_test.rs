//! `ioc-watch mail-test`: one mail to one person, over the configured server, with a clear answer. It goes past the
//! outbox: the daemon need not run, and nothing is left behind.

use crate::config::organisation::Person;
use crate::config::site::Language;
use crate::config::{self, Config};
use crate::mail::message::{self, one_line};
use crate::mail::smtp::Link;
use crate::mail::templates::{IncidentView, Templates};
use crate::mail::{Draft, Letter, Outgoing};
use crate::{cli, format};
use anyhow::Context;
use jiff::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct MailTest {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The id of the person to write to
    #[arg(long, value_name = "PERSON")]
    to: String,
    /// Prints the message instead of sending it
    #[arg(long)]
    dry_run: bool,
}

impl MailTest {
    pub fn run(&self) -> ExitCode {
        let config = match config::load(&self.config) {
            Ok(config) => config,
            Err(problems) => {
                eprint!("{}", cli::check::report(&problems));
                return ExitCode::FAILURE;
            }
        };
        match self.send(&config) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn send(&self, config: &Config) -> anyhow::Result<String> {
        let email = config.email.as_ref().context("the configuration has no section email")?;
        let person = config.people.iter().find(|person| person.id.as_str() == self.to).with_context(|| {
            let ids: Vec<&str> = config.people.iter().map(|person| person.id.as_str()).collect();
            format!("there is no person {:?}; there are {}", self.to, ids.join(", "))
        })?;
        let mail = test_mail(config, person, &email.from, Timestamp::now())?;
        if self.dry_run {
            return Ok(mail.message);
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
        let mut link = Link::new(email)?;
        runtime.block_on(async {
            let outcome = link.deliver(&mail, std::future::ready(true)).await;
            link.close().await;
            outcome.map_err(|error| anyhow::anyhow!("{}:{} did not take the mail: {error}", email.host, email.port))
        })?;
        Ok(format!("{}:{} took the mail to {} ({})", email.host, email.port, person.id, mail.message_id))
    }
}

/// A mail that looks like that of an incident and says that it is none.
fn test_mail(
    config: &Config,
    person: &Person,
    from: &lettre::message::Mailbox,
    now: Timestamp,
) -> anyhow::Result<Outgoing> {
    let language = person.language.unwrap_or(config.site.language);
    let site = &config.site;
    let (subject, description, severity) = match language {
        Language::Vi => ("Thư thử", "Đây là thư thử từ ioc-watch. Không có sự cố nào.", "thư thử"),
        Language::En => ("Test mail", "This is a test of ioc-watch. There is no incident.", "test"),
    };
    let agency = config.agencies.iter().find(|agency| agency.id == site.agency);
    let view = IncidentView {
        news: "resolved",
        headline: format!("{subject}: {}", one_line(&site.name)),
        description: description.into(),
        since: format::date_time(now, &site.timezone),
        until: format::date_time(now, &site.timezone),
        lasted: format::duration(std::time::Duration::ZERO, language),
        severity: severity.into(),
        agency: agency.map(|agency| agency.name.clone()).unwrap_or_default(),
        area: crate::incident::words::area(config::organisation::Area::Own, language).into(),
        told: vec![person.name.clone()],
        url: site.external_url.clone(),
        site: site.name.clone(),
        ..IncidentView::default()
    };
    let (text, html) = Templates::of(config).incident(&view, language)?;
    let letter = Letter { subject: format!("[{subject}] {}", one_line(&site.name)), text, html };
    let draft = Draft {
        letter: &letter,
        from,
        name: &person.name,
        address: &person.email,
        message_id: &message::message_id(&format!("test.{:x}.{}", now.as_microsecond(), person.id), from),
        in_reply_to: None,
        list: "test",
        date: now,
    };
    Ok(message::outgoing(&draft, "test".into(), &person.id)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_mail_says_that_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ioc-watch.yml");
        std::fs::write(&file, include_str!("init.yml")).unwrap();
        let config = config::load(&file).unwrap();
        let from = &config.email.as_ref().unwrap().from;
        let mail = test_mail(&config, &config.people[0], from, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(mail.recipient, "truc@ioc.vn.example");
        assert!(mail.message.contains("List-Id: <test."), "{}", mail.message);
    }
}
