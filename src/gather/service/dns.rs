//! A question to a resolver, asked over UDP (and over TCP if the answer is too long), and its answer judged.

use super::detail::{Detail, Failure};
use super::outcome::{CheckResult, Phase};
use super::trace::Trace;
use super::{CompileError, Outcome, Trust};
use crate::config::probes::dns::{DnsProbe, Expect, KINDS, canonical, parse_resolver};
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::RData;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// What we say we can take over UDP, in bytes; more makes fragments that firewalls lose.
const PAYLOAD: u16 = 1232;
/// A lost datagram is sent again after this part of the timeout.
const AGAIN: u32 = 4;
/// Answers that answer another question are passed over, but not for ever.
const FOREIGN_MAX: usize = 64;
/// Where the system's resolvers stand.
const RESOLVERS: &str = "/etc/resolv.conf";
/// More records are not shown or compared.
const RECORDS_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("{RESOLVERS} names no resolver; name one with resolver")]
    NoResolver,
}

/// A [`DnsProbe`] made ready.
#[derive(Debug)]
pub struct DnsCheck {
    probe: DnsProbe,
    /// Asked in turn until one answers.
    resolvers: Vec<SocketAddr>,
}

impl DnsCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(probe: &DnsProbe, _trust: &Trust) -> Result<DnsCheck, CompileError> {
        let resolvers = match probe.resolver {
            Some(resolver) => vec![resolver],
            None => system_resolvers(&tokio::fs::read_to_string(RESOLVERS).await.unwrap_or_default()),
        };
        if resolvers.is_empty() {
            return Err(DnsError::NoResolver.into());
        }
        Ok(DnsCheck { probe: probe.clone(), resolvers })
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let mut trace = Trace::new();
        let checked = match tokio::time::timeout(timeout, self.ask_all(timeout, &mut trace)).await {
            Err(_) => Ok(Err(Failure::new(CheckResult::Timeout, Detail::NoAnswer { limit: timeout }))),
            ended => ended,
        };
        trace.outcome(checked, timeout, self.probe.slow_after)
    }

    async fn ask_all(&self, timeout: Duration, trace: &mut Trace) -> Result<(), Failure> {
        trace.enter(Phase::Processing);
        let share = timeout / u32::try_from(self.resolvers.len()).unwrap_or(1).max(1);
        let mut last = Failure::new(CheckResult::Timeout, Detail::NoAnswer { limit: timeout });
        for (index, &resolver) in self.resolvers.iter().enumerate() {
            trace.address = Some(resolver);
            // The last one may take all the time that is left.
            let limit = if index + 1 == self.resolvers.len() { timeout } else { share };
            match tokio::time::timeout(limit, self.ask(resolver, limit)).await {
                Ok(Ok(answer)) => {
                    trace.enter(Phase::Total);
                    return self.judge(&answer);
                }
                Ok(Err(failure)) => last = failure,
                Err(_) => {}
            }
        }
        Err(last)
    }

    async fn ask(&self, resolver: SocketAddr, limit: Duration) -> Result<Message, Failure> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(self.probe.name.clone(), self.probe.kind));
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        query.set_edns(edns);
        let own = |cause: String| Failure::new(CheckResult::Error, Detail::Own { cause });
        let bytes = query.to_vec().map_err(|error| own(error.to_string()))?;
        let answer = over_udp(resolver, &query, &bytes, limit).await?;
        if answer.metadata.truncation { over_tcp(resolver, &query, &bytes).await } else { Ok(answer) }
    }

    fn judge(&self, answer: &Message) -> Result<(), Failure> {
        let code = answer.metadata.response_code;
        if code != self.probe.rcode {
            let result = if code == ResponseCode::Refused { CheckResult::Refused } else { CheckResult::Dns };
            return Err(Failure::new(result, Detail::Rcode { code: rcode_name(code) }));
        }
        if code != ResponseCode::NoError {
            return Ok(());
        }
        let kind = self.probe.kind;
        let records = answer.answers.iter().filter(|record| record.record_type() == kind).take(RECORDS_MAX);
        let mut found: Vec<String> = records.map(|record| canonical(kind, &shown(&record.data))).collect();
        found.sort_unstable();
        found.dedup();
        let kind =
            || KINDS.iter().find(|(_, known)| *known == kind).map_or_else(String::new, |(name, _)| (*name).into());
        if found.is_empty() {
            return Err(Failure::new(CheckResult::Dns, Detail::NoRecord { kind: kind() }));
        }
        let (wanted, sound) = match &self.probe.expect {
            None => return Ok(()),
            Some(Expect::Exactly(wanted)) => {
                let all = wanted.iter().all(|value| found.contains(value));
                (wanted, all && found.iter().all(|value| wanted.contains(value)))
            }
            Some(Expect::Contains(wanted)) => (wanted, wanted.iter().all(|value| found.contains(value))),
        };
        if sound {
            return Ok(());
        }
        found.truncate(8);
        let found = found.iter().map(|value| super::detail::excerpt(value.as_bytes())).collect();
        Err(Failure::new(CheckResult::Content, Detail::Records { wanted: wanted.clone(), found }))
    }
}

/// As operators know it.
fn rcode_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => format!("RCODE {}", u16::from(other)),
    }
}

/// A record's value as operators write it.
fn shown(data: &RData) -> String {
    match data {
        // Parts of one text are one text.
        RData::TXT(text) => text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect(),
        RData::CAA(caa) => {
            let flags = if caa.issuer_critical { 128 } else { 0 };
            format!("{flags} {} {}", caa.tag, String::from_utf8_lossy(&caa.value))
        }
        other => other.to_string(),
    }
}

async fn over_udp(resolver: SocketAddr, query: &Message, bytes: &[u8], limit: Duration) -> Result<Message, Failure> {
    let any: SocketAddr =
        if resolver.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let failed = |error: io::Error| unreachable(resolver, &error);
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    // Connected: the kernel drops datagrams of others, and tells us when nobody listens there.
    socket.connect(resolver).await.map_err(failed)?;
    let mut buffer = vec![0; 65_535];
    let mut again = tokio::time::interval((limit / AGAIN).max(Duration::from_millis(10)));
    let mut foreign = 0;
    loop {
        tokio::select! {
            _ = again.tick() => { socket.send(bytes).await.map_err(failed)?; }
            read = socket.recv(&mut buffer) => {
                let read = read.map_err(failed)?;
                match Message::from_vec(&buffer[..read]) {
                    Ok(answer) if answers(&answer, query) => return Ok(answer),
                    Ok(_) => foreign += 1,
                    Err(error) => return Err(not_dns(error.to_string())),
                }
                if foreign > FOREIGN_MAX {
                    return Err(not_dns("answers to other questions".into()));
                }
            }
        }
    }
}

async fn over_tcp(resolver: SocketAddr, query: &Message, bytes: &[u8]) -> Result<Message, Failure> {
    let exchange = async {
        let mut stream = TcpStream::connect(resolver).await?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], bytes].concat();
        stream.write_all(&framed).await?;
        let length = usize::from(stream.read_u16().await?);
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let answer = exchange.await.map_err(|error: io::Error| unreachable(resolver, &error))?;
    let answer = Message::from_vec(&answer).map_err(|error| not_dns(error.to_string()))?;
    if answers(&answer, query) { Ok(answer) } else { Err(not_dns("an answer to another question".into())) }
}

fn answers(answer: &Message, query: &Message) -> bool {
    let same = answer.metadata.id == query.metadata.id && answer.metadata.message_type == MessageType::Response;
    // Some resolvers leave the question out of an error.
    same && (answer.queries == query.queries
        || (answer.queries.is_empty() && answer.metadata.response_code != ResponseCode::NoError))
}

fn not_dns(cause: String) -> Failure {
    Failure::new(CheckResult::Error, Detail::NotDns { cause })
}

fn unreachable(address: SocketAddr, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        Failure::new(CheckResult::Refused, Detail::Refused { address })
    } else {
        Failure::new(CheckResult::Error, Detail::Unreachable { address, cause: error.to_string() })
    }
}

/// At most three, as the C library takes them.
fn system_resolvers(file: &str) -> Vec<SocketAddr> {
    let named = file.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    named.filter_map(|rest| parse_resolver(rest.split_whitespace().next()?)).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{A, TXT};
    use hickory_proto::rr::{Name, Record, RecordType};

    const LONG: Duration = Duration::from_secs(20);

    /// The system gives a free UDP port; the TCP port of that number may be somebody else's, then the next one is tried.
    async fn one_port_of_both() -> (UdpSocket, tokio::net::TcpListener) {
        for _ in 0..100 {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
                return (udp, tcp);
            }
        }
        panic!("no port number was free for both UDP and TCP");
    }

    /// A resolver that answers every question with what `behave` makes of it; `None` stays silent.
    async fn resolver(
        behave: impl Fn(&Message, bool) -> Option<Vec<u8>> + Send + Sync + Clone + 'static,
    ) -> SocketAddr {
        let (udp, tcp) = one_port_of_both().await;
        let address = udp.local_addr().unwrap();
        let also = behave.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((read, from)) = udp.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..read]).unwrap();
                if let Some(answer) = behave(&query, false) {
                    let _ = udp.send_to(&answer, from).await;
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = stream.read_u16().await.unwrap();
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await.unwrap();
                if let Some(answer) = also(&Message::from_vec(&query).unwrap(), true) {
                    let length = u16::try_from(answer.len()).unwrap();
                    stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.unwrap();
                }
            }
        });
        address
    }

    fn answer(query: &Message, code: ResponseCode, data: &[RData]) -> Message {
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.response_code = code;
        answer.add_queries(query.queries.clone());
        for data in data {
            answer.add_answer(Record::from_rdata(query.queries[0].name.clone(), 60, data.clone()));
        }
        answer
    }

    fn a(last: u8) -> RData {
        RData::A(A(Ipv4Addr::new(192, 0, 2, last)))
    }

    async fn ask(resolver: SocketAddr, kind: RecordType, expect: Option<Expect>, timeout: Duration) -> Outcome {
        let mut probe = DnsProbe::of(Name::from_utf8("dvc.example.").unwrap(), kind);
        probe.resolver = Some(resolver);
        probe.expect = expect;
        DnsCheck::new(&probe, &Trust::default()).await.unwrap().run(timeout).await
    }

    #[tokio::test]
    async fn values_are_compared_whole_or_in_part() {
        let server = resolver(|query, _| answer(query, ResponseCode::NoError, &[a(1), a(2)]).to_vec().ok()).await;
        let values = |list: &[&str]| list.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        for (name, expect, result) in [
            ("anything", None, CheckResult::Ok),
            ("all, in any order", Some(Expect::Exactly(values(&["192.0.2.2", "192.0.2.1"]))), CheckResult::Ok),
            ("one too many", Some(Expect::Exactly(values(&["192.0.2.1"]))), CheckResult::Content),
            ("one of two", Some(Expect::Contains(values(&["192.0.2.1"]))), CheckResult::Ok),
            ("a stranger", Some(Expect::Contains(values(&["192.0.2.9"]))), CheckResult::Content),
        ] {
            assert_eq!(ask(server, RecordType::A, expect, LONG).await.result, result, "{name}");
        }
    }

    #[tokio::test]
    async fn errors_of_the_resolver_are_told_apart() {
        for (code, result) in [
            (ResponseCode::NXDomain, CheckResult::Dns),
            (ResponseCode::ServFail, CheckResult::Dns),
            (ResponseCode::Refused, CheckResult::Refused),
            (ResponseCode::NoError, CheckResult::Dns),
        ] {
            let server = resolver(move |query, _| answer(query, code, &[]).to_vec().ok()).await;
            assert_eq!(ask(server, RecordType::A, None, LONG).await.result, result, "{code}");
        }
        let silent = resolver(|_, _| None).await;
        assert_eq!(ask(silent, RecordType::A, None, Duration::from_millis(200)).await.result, CheckResult::Timeout);
        let garbage = resolver(|_, _| Some(vec![1, 2, 3])).await;
        assert_eq!(ask(garbage, RecordType::A, None, LONG).await.result, CheckResult::Error);
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(ask(closed, RecordType::A, None, LONG).await.result, CheckResult::Refused);
    }

    #[tokio::test]
    async fn a_forged_answer_to_another_question_is_passed_over() {
        let server = resolver(|query, _| {
            let mut forged = answer(query, ResponseCode::NoError, &[a(66)]);
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.to_vec().ok()
        });
        let outcome = ask(server.await, RecordType::A, None, Duration::from_millis(300)).await;
        assert_eq!(outcome.result, CheckResult::Timeout);
    }

    #[tokio::test]
    async fn a_truncated_answer_is_asked_for_again_over_tcp() {
        let server = resolver(|query, tcp| {
            let text = RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all".into()]));
            let mut whole = answer(query, ResponseCode::NoError, if tcp { std::slice::from_ref(&text) } else { &[] });
            whole.metadata.truncation = !tcp;
            whole.to_vec().ok()
        });
        let expect = Some(Expect::Exactly(vec!["v=spf1 -all".into()]));
        assert_eq!(ask(server.await, RecordType::TXT, expect, LONG).await.result, CheckResult::Ok);
    }

    #[test]
    fn the_systems_resolvers_are_read_as_the_c_library_does() {
        let file = "# x\nsearch vn.example\nnameserver 192.0.2.53 \nnameserver ::1\noptions edns0\n";
        let shown: Vec<String> = system_resolvers(file).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.53:53", "[::1]:53"]);
    }
}
