//! `server.users_file`: who may log in, by name. Hashes only; `ioc-watch hash-password` makes them.

use super::decode::{self, Context, Section};
use super::node::{Node, Place, Value, quote};
use super::site::Language;
use super::{Id, Secret};
use argon2::password_hash::phc::{Output, PasswordHash};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Everybody who may log in.
#[derive(Debug, Clone)]
pub struct Users {
    pub file: PathBuf,
    /// Never empty.
    pub list: Vec<User>,
}

/// Someone who may log in.
#[derive(Debug, Clone)]
pub struct User {
    /// What they type; as an id, and `@` is allowed.
    pub name: String,
    /// Argon2id as a PHC string.
    pub hash: Secret,
    /// The person of the configuration that this is.
    pub person: Option<Id>,
    /// Never empty.
    pub roles: BTreeSet<Role>,
    /// Sees and writes this agency and those below it only.
    pub agency: Option<Id>,
    /// Of the pages; default the person's, then the browser's.
    pub language: Option<Language>,
}

/// What somebody is, and so may do: see the table in [`crate::web::access`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees.
    Viewer,
    /// Acknowledges, silences, plans maintenance, corrects causes, posts alerts.
    Operator,
    /// Acknowledges and explains.
    Leader,
    /// Judges: corrects causes, accepts explanations.
    Evaluator,
    /// Everything, reloading included.
    Admin,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Viewer, Role::Operator, Role::Leader, Role::Evaluator, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Leader => "leader",
            Role::Evaluator => "evaluator",
            Role::Admin => "admin",
        }
    }
}

impl Users {
    pub fn find(&self, name: &str) -> Option<&User> {
        self.list.iter().find(|user| user.name == name)
    }

    /// What is unwise about the file, for a warning: others on this machine can read it, and guess at leisure.
    pub fn exposure(&self) -> Option<String> {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&self.file).ok()?.permissions().mode();
        (mode & 0o004 != 0).then(|| {
            format!(
                "{}: others on this machine can read the password hashes (mode {:04o}); chmod 640",
                self.file.display(),
                mode & 0o7777
            )
        })
    }
}

/// What a user may be called: an id that may hold `@`.
pub fn is_name(name: &str) -> bool {
    Id::parse(&name.replace('@', "-")).is_some()
}

/// Reads the file that the key names.
pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Users> {
    let file = decode::readable_file(cx, node)?;
    let root = Node::read_file(&file, cx.problems)?;
    let mut inner = Context::new(&file, cx.problems, cx.zone.clone());
    inner.people.clone_from(&cx.people);
    inner.agencies.clone_from(&cx.agencies);
    let list = users(&mut inner, &root);
    list.map(|list| Users { file, list })
}

fn users(cx: &mut Context<'_>, root: &Node) -> Option<Vec<User>> {
    let entries = match &root.value {
        Value::Mapping(entries) if !entries.is_empty() => entries,
        Value::Invalid => return None,
        _ => {
            cx.expected(root, "users: NAME: {hash: …, roles: […]}; make a hash with ioc-watch hash-password");
            return None;
        }
    };
    let mut list = Vec::with_capacity(entries.len());
    for entry in entries {
        if !is_name(&entry.key) {
            let message = format!("found the user {}, expected {}, or '@'", quote(&entry.key), Id::ALLOWED);
            cx.error(entry.place, message);
            continue;
        }
        list.extend(User::decode(cx, &entry.key, entry.place, &entry.value));
    }
    Some(list)
}

impl User {
    fn decode(cx: &mut Context<'_>, name: &str, place: Place, node: &Node) -> Option<User> {
        const KEYS: &[&str] = &["hash", "roles", "person", "agency", "language"];
        let section = Section::open(cx, node, "user", KEYS, &[])?;
        let hash = section.required(cx, "hash", hash);
        let words = Role::ALL.map(|role| (role.as_str(), role));
        let roles = section.required(cx, "roles", decode::list(decode::choice(&words)));
        let person = section.optional(cx, "person", decode::person);
        let agency = section.optional(cx, "agency", decode::agency);
        let language = section.optional(cx, "language", decode::choice(&super::site::LANGUAGES));
        if section.get("roles").is_some_and(|roles| roles.as_sequence().is_some_and(<[Node]>::is_empty)) {
            cx.error(place, format!("user {}: \"roles\" is empty, so the user could do nothing", quote(name)));
        }
        let roles = roles?.into_iter().collect();
        Some(User { name: name.to_owned(), hash: hash?, roles, person, agency, language })
    }
}

/// The hash itself is never repeated in a message.
fn hash(cx: &mut Context<'_>, node: &Node) -> Option<Secret> {
    match node.as_text().map(check_hash) {
        Some(Ok(())) => node.as_text().map(Secret::new),
        Some(Err(what)) => {
            cx.wrong(node, what);
            None
        }
        None => {
            cx.wrong(node, "expected a line that ioc-watch hash-password printed");
            None
        }
    }
}

/// Memory in KiB and rounds: less is guessed too fast, more lets a stranger's login take the machine.
const MEMORY: std::ops::RangeInclusive<u32> = 15 * 1024..=256 * 1024;
const ROUNDS: std::ops::RangeInclusive<u32> = 1..=16;

/// Says what is wrong with a password hash.
pub fn check_hash(text: &str) -> Result<(), &'static str> {
    let hash = PasswordHash::new(text)
        .map_err(|_| "not a password hash; expected a line that ioc-watch hash-password printed (never a password)")?;
    if hash.algorithm.as_str() != "argon2id" {
        return Err("not an argon2id hash; make one with ioc-watch hash-password");
    }
    let sound = hash.salt.is_some() && hash.hash.is_some() && hash.version.is_none_or(|version| version == 19);
    let params = argon2::Params::try_from(&hash).ok().filter(|_| sound);
    let params = params.ok_or("not a whole argon2id hash; make one with ioc-watch hash-password")?;
    let fits = MEMORY.contains(&params.m_cost()) && ROUNDS.contains(&params.t_cost()) && params.p_cost() <= 16;
    if !fits {
        return Err("argon2id with m from 15360 (KiB) to 262144, t from 1 to 16 and p up to 16 is accepted; make a \
                    hash with ioc-watch hash-password");
    }
    Ok(())
}

/// Whether a password is the one that was hashed. Takes tens of milliseconds and of megabytes: never on a thread that
/// serves others.
pub fn verify(password: &str, hash: &Secret) -> bool {
    let Ok(hash) = PasswordHash::new(hash.expose()) else { return false };
    let Ok(params) = argon2::Params::try_from(&hash) else { return false };
    let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else { return false };
    let n_blocks = params.block_count();
    // The allocator gives what is larger than this back to the system when it is freed; of smaller pieces it keeps some
    // for each thread that ever verified a password, for ever. What is not used is not touched, and so takes nothing.
    let mut blocks: Vec<argon2::Block> = Vec::with_capacity(n_blocks.max(KEPT_BY_ALLOCATOR / argon2::Block::SIZE));
    blocks.resize(n_blocks, argon2::Block::new());
    let mut found = vec![0; expected.len()];
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hashed = argon2.hash_password_into_with_memory(password.as_bytes(), &salt, &mut found, blocks.as_mut_slice());
    // Outputs compare in constant time.
    hashed.is_ok() && Output::new(&found).is_ok_and(|found| found == expected)
}

/// glibc's largest threshold between its heaps and memory of their own, and a little, in bytes.
const KEPT_BY_ALLOCATOR: usize = 33 * 1024 * 1024;

/// Hashes a password: argon2id, 19 MiB, two rounds, a salt from the system's random source.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    use argon2::PasswordHasher;
    use ring::rand::SecureRandom;
    let mut salt = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut salt).map_err(|_| HashError::Random)?;
    let hash: PasswordHash =
        argon2::Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).map_err(HashError::Argon2)?;
    Ok(hash.to_string())
}

#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error("the system's random source failed")]
    Random,
    #[error("hashing the password")]
    Argon2(#[source] argon2::password_hash::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let hash = hash_password("mật khẩu dài").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(check_hash(&hash), Ok(()));
        let hash = Secret::new(hash);
        assert!(verify("mật khẩu dài", &hash));
        assert!(!verify("mật khẩu", &hash) && !verify("", &hash));
        assert_ne!(hash_password("x").unwrap(), hash_password("x").unwrap(), "salted");
    }

    #[test]
    fn weak_costly_and_broken_hashes_are_refused() {
        let with = |algorithm: &str, params: &str| {
            format!("${algorithm}$v=19${params}$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g")
        };
        assert_eq!(check_hash(&with("argon2id", "m=19456,t=2,p=1")), Ok(()));
        let bad = [
            "".to_owned(),
            "hunter2".to_owned(),
            "$2b$12$abcdefghijklmnopqrstuu".to_owned(),
            "$argon2id$v=19$m=19456,t=2,p=1".to_owned(),
            with("argon2i", "m=19456,t=2,p=1"),
            with("argon2id", "m=1024,t=2,p=1"),
            with("argon2id", "m=4194304,t=2,p=1"),
            with("argon2id", "m=19456,t=2000,p=1"),
        ];
        for text in bad {
            assert!(check_hash(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_ids_that_may_be_addresses() {
        assert!(is_name("truc") && is_name("truc@ioc.vn.example"));
        assert!(!is_name("") && !is_name("Trực") && !is_name("a b") && !is_name("@a"));
    }
}
