//! Tests of `bounce.rs`: reports as servers write them, and what is none.

use super::*;
use proptest::prelude::*;

/// As Postfix writes it.
const POSTFIX: &str = "\
From MAILER-DAEMON Thu Nov 26 07:30:02 2026
Return-Path: <>
Date: Thu, 26 Nov 2026 07:30:02 +0700 (+07)
From: MAILER-DAEMON@mail.vn.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: ioc@vn.example
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary=\"7A3B21.1795000000/mail.vn.example\"
Message-Id: <20261126003002.9C1B@mail.vn.example>

This is a MIME-encapsulated message.

--7A3B21.1795000000/mail.vn.example
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not
be delivered. Message-ID: <not-this@vn.example>

--7A3B21.1795000000/mail.vn.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.vn.example
X-Postfix-Queue-ID: 7A3B21
Arrival-Date: Thu, 26 Nov 2026 07:30:00 +0700 (+07)

Final-Recipient: rfc822; chutich@tamky.vn.example
Original-Recipient: rfc822;chutich@tamky.vn.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.tamky.vn.example
Diagnostic-Code: smtp; 550 5.1.1 <chutich@tamky.vn.example>:
    Recipient address rejected: User unknown

--7A3B21.1795000000/mail.vn.example
Content-Description: Undelivered Message
Content-Type: message/rfc822

From: IOC <ioc@vn.example>
Message-ID: <incident-7.61a.1.lead@vn.example>
Subject: x

Message-ID: <not-this-either@vn.example>

--7A3B21.1795000000/mail.vn.example--
";

#[test]
fn a_report_names_the_mail_and_the_reason() {
    let expected = Report {
        message_id: Some("<incident-7.61a.1.lead@vn.example>".into()),
        recipient: Some("chutich@tamky.vn.example".into()),
        reason: "550 5.1.1 <c…@tamky.vn.example>: Recipient address rejected: User unknown".into(),
    };
    assert_eq!(read(POSTFIX.as_bytes()), Ok(vec![expected.clone()]));
    assert_eq!(read(POSTFIX.replace('\n', "\r\n").as_bytes()), Ok(vec![expected.clone()]));
    let headers_only = POSTFIX.replace("message/rfc822", "text/rfc822-headers; charset=utf-8");
    assert_eq!(read(headers_only.as_bytes()), Ok(vec![expected]));
}

#[test]
fn without_the_mail_s_head_the_recipients_are_all_there_is() {
    let text = POSTFIX
        .replace("Message-ID: <incident-7.61a.1.lead@vn.example>\n", "")
        .replace("Original-Recipient: rfc822;chutich@", "Original-Recipient: x400; /")
        .replace(
            "    Recipient address rejected: User unknown\n",
            "    no\n\n\nFinal-Recipient: RFC822;<b@vn.example>\nAction: Failed (bad mailbox)\nStatus: 5.2.2\n\n\
             Final-Recipient: rfc822;c@vn.example\nAction: delayed\nStatus: 4.4.1\n",
        );
    let reports = read(text.as_bytes()).unwrap();
    let seen: Vec<(Option<&str>, Option<&str>, &str)> =
        reports.iter().map(|r| (r.message_id.as_deref(), r.recipient.as_deref(), r.reason.as_str())).collect();
    assert_eq!(
        seen,
        [
            (None, Some("chutich@tamky.vn.example"), "550 5.1.1 <c…@tamky.vn.example>: no"),
            (None, Some("b@vn.example"), "5.2.2"),
        ]
    );
}

#[test]
fn what_is_no_report_of_a_failure_says_so() {
    let rows = [
        ("empty", String::new(), Err(NoReport::NoHead)),
        ("no type", "Subject: x\n\ny\n".into(), Err(NoReport::NoHead)),
        ("a letter", "Content-Type: text/plain\n\nI am on holiday\n".into(), Err(NoReport::OtherType)),
        ("no boundary", "Content-Type: multipart/report\n\n--\n".into(), Err(NoReport::OtherType)),
        (
            "another report",
            POSTFIX.replace("message/delivery-status", "message/feedback-report"),
            Err(NoReport::NoStatus),
        ),
        ("cut short", POSTFIX.split("Content-Type: message/delivery").next().unwrap().into(), Err(NoReport::NoStatus)),
        ("a delay", POSTFIX.replace("Action: failed", "Action: delayed"), Ok(Vec::new())),
        ("a success", POSTFIX.replace("Action: failed", "Action: relayed"), Ok(Vec::new())),
    ];
    for (name, text, expected) in rows {
        assert_eq!(read(text.as_bytes()), expected, "{name}");
    }
}

#[test]
fn what_a_hostile_report_says_is_bounded() {
    let many: String = (0..100_000).map(|n| format!("\nFinal-Recipient: rfc822;a{n}@x\nAction: failed\n")).collect();
    let text = format!(
        "Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nX: y\n{many}\n--b--\n"
    );
    assert_eq!(read(text.as_bytes()).unwrap().len(), RECIPIENTS);
    let long = POSTFIX.replace("User unknown", &"Ố\u{0}".repeat(200_000));
    let reports = read(long.as_bytes()).unwrap();
    assert!(reports[0].reason.chars().count() <= REASON && !reports[0].reason.contains('\0'));
    let parts = "--b\nContent-Type: text/plain\n\n".repeat(1_000);
    let text =
        format!("Content-Type: multipart/report; boundary=b\n\n{parts}--b\nContent-Type: message/delivery-status\n\n");
    assert_eq!(read(text.as_bytes()), Err(NoReport::NoStatus));
}

proptest! {
    /// Whatever bytes come, the answer comes.
    #[test]
    fn no_message_makes_it_panic(cut in 0..POSTFIX.len(), at in 0..POSTFIX.len(), noise in any::<Vec<u8>>()) {
        let mut message = POSTFIX.as_bytes()[..cut.max(at)].to_vec();
        message.splice(at..at, noise);
        let _ = read(&message);
    }
}
