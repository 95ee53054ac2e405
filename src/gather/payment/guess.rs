//! Guesses columns, words and time formats of payment files from banks, gateways and portals, in Vietnamese and
//! English. For the one-off command only: a feed of the daemon is configured, not guessed.

use super::classify::Status;
use crate::feed::csv::Record;
use crate::feed::value::{TimeFormat, shorten};
use crate::feed::{Reason, Rejection};
use jiff::Timestamp;
use std::collections::BTreeMap;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Where the columns stand, and what their headers say.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Without it payments are matched by dossier, amount and time.
    pub txn_ref: Option<usize>,
    pub amount: usize,
    pub dossier: Option<usize>,
    /// Without it every row counts as paid.
    pub status: Option<usize>,
    /// Without it every row counts as old.
    pub time: Option<usize>,
    pub refund_of: Option<usize>,
    pub n_fields: usize,
    pub headers: Vec<String>,
}

/// Headers that the operator names, by canonical column.
#[derive(Debug, Clone, Default)]
pub struct Given(BTreeMap<&'static str, String>);

impl Given {
    /// Reads `txn_ref=Mã GD,amount=Số tiền`.
    pub fn parse(text: &str) -> Result<Given, String> {
        let mut given = BTreeMap::new();
        for pair in text.split(',') {
            let (name, header) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not COLUMN=HEADER"))?;
            let Some((name, _)) = COLUMNS.iter().find(|(known, _)| *known == name.trim()) else {
                let allowed: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
                return Err(format!("unknown column {:?}, allowed: {}", name.trim(), allowed.join(", ")));
            };
            if plain(header).is_empty() {
                return Err(format!("{name}: the header is empty"));
            }
            if given.insert(*name, header.trim().to_string()).is_some() {
                return Err(format!("{name} stands here twice"));
            }
        }
        Ok(Given(given))
    }
}

/// Canonical columns, and the headers they are known by.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("txn_ref", TXN_REF),
    ("dossier", DOSSIER),
    ("amount", AMOUNT),
    ("status", STATUS),
    ("time", TIME),
    ("refund_of", REFUND_OF),
];

const TXN_REF: &[&str] = &[
    "txnref",
    "transactionref",
    "transactionreference",
    "transactionid",
    "txnid",
    "transid",
    "vnptxnref",
    "magiaodich",
    "magd",
    "sogiaodich",
    "mathamchieu",
    "mathanhtoan",
    "idgiaodich",
    "paymentid",
    "orderid",
    "reference",
    "ref",
];
const DOSSIER: &[&str] = &["dossierid", "dossiercode", "dossier", "mahoso", "sohoso", "mahs", "sohs", "hoso"];
const AMOUNT: &[&str] = &[
    "amount",
    "amountvnd",
    "amountdong",
    "sotien",
    "sotiendong",
    "sotienvnd",
    "sotiend",
    "sotiengd",
    "sotiengiaodich",
    "sotienthanhtoan",
    "thanhtien",
    "tongtien",
    "lephi",
    "phi",
    "total",
    "value",
];
const STATUS: &[&str] = &[
    "status",
    "paymentstatus",
    "trangthai",
    "trangthaithanhtoan",
    "trangthaigiaodich",
    "trangthaigd",
    "tinhtrang",
    "ketqua",
    "state",
    "result",
];
const TIME: &[&str] = &[
    "time",
    "timestamp",
    "paidat",
    "recordedat",
    "settledat",
    "createdat",
    "paymenttime",
    "paymentdate",
    "transactiontime",
    "transactiondate",
    "thoigian",
    "thoigiangiaodich",
    "thoigiangd",
    "thoigianthanhtoan",
    "ngaygiaodich",
    "ngaygd",
    "ngaythanhtoan",
    "ngaygio",
    "ngay",
    "gio",
    "datetime",
    "date",
];

const REFUND_OF: &[&str] =
    &["refundof", "originaltxnref", "originaltransactionid", "giaodichgoc", "magiaodichgoc", "magdgoc"];

const WORDS: &[(Status, &[&str])] = &[
    (
        Status::Paid,
        &[
            "success",
            "successful",
            "succeeded",
            "completed",
            "complete",
            "ok",
            "00",
            "thanhcong",
            "giaodichthanhcong",
            "dathanhtoan",
            "dathu",
            "danop",
            "danoptien",
            "hoanthanh",
        ],
    ),
    (Status::Settled, &["captured", "daquyettoan", "dadoisoat"]),
    (
        Status::Pending,
        &[
            "processing",
            "waiting",
            "created",
            "initiated",
            "dangxuly",
            "choxuly",
            "cho",
            "chothanhtoan",
            "chuathanhtoan",
        ],
    ),
    (
        Status::Failed,
        &[
            "fail",
            "failure",
            "error",
            "cancelled",
            "canceled",
            "expired",
            "rejected",
            "thatbai",
            "khongthanhcong",
            "loi",
            "huy",
            "dahuy",
            "tuchoi",
            "hethan",
        ],
    ),
    (Status::Refunded, &["refund", "dahoantien", "hoantien", "dahoan"]),
    (Status::Reversed, &["reversal", "voided", "void", "dadao", "daotien"]),
];

/// Letters and digits only, without marks, in lower case: `Mã giao dịch` and `MA_GIAO_DICH` are one.
fn plain(text: &str) -> String {
    let letters = text.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    letters.map(|c| if c == 'đ' { 'd' } else { c }).filter(|c| c.is_alphanumeric()).collect()
}

impl Mapping {
    /// Finds the columns in a header, those that are given by their header and the others by what they are usually
    /// called; `Err` says which one is missing.
    pub fn find(header: &Record<'_>, given: &Given) -> Result<Mapping, Rejection> {
        if header.raw.contains(&0) {
            let detail = "the file is UTF-16 or binary; export it as UTF-8";
            return Err(Rejection::new(Reason::FileEncoding, detail));
        }
        let headers: Result<Vec<&str>, _> = header.iter().map(std::str::from_utf8).collect();
        let Ok(headers) = headers else {
            return Err(Rejection::new(Reason::FileEncoding, "the header is not UTF-8; export the file as UTF-8"));
        };
        Mapping::find_in(headers.into_iter(), given)
    }

    /// [`Mapping::find`] in headers that are text already.
    pub fn find_in<'h>(headers: impl Iterator<Item = &'h str>, given: &Given) -> Result<Mapping, Rejection> {
        let headers: Vec<String> = headers.map(|cell| cell.trim().nfc().collect()).collect();
        let folded: Vec<String> = headers.iter().map(|header| plain(header)).collect();
        let mut found = [None; COLUMNS.len()];
        for (place, (name, known)) in found.iter_mut().zip(COLUMNS) {
            *place = match given.0.get(name) {
                Some(wanted) => {
                    let place = folded.iter().position(|header| *header == plain(wanted)).ok_or_else(|| {
                        Rejection::new(Reason::FileHeader, format!("{name}: no column {wanted:?} in {headers:?}"))
                    })?;
                    Some(place)
                }
                None => known.iter().find_map(|name| folded.iter().position(|header| header == name)),
            };
        }
        let [txn_ref, dossier, amount, status, time, refund_of] = found;
        let missing = |what: &str, names: &[&str]| {
            let known = names.join(", ");
            Rejection::new(
                Reason::FileHeader,
                format!("no column for the {what} in {headers:?}; known headers: {known}"),
            )
        };
        let amount = amount.ok_or_else(|| missing("amount", AMOUNT))?;
        if txn_ref.is_none() && dossier.is_none() {
            return Err(missing("transaction's reference or the dossier", TXN_REF));
        }
        Ok(Mapping { txn_ref, amount, dossier, status, time, refund_of, n_fields: headers.len(), headers })
    }

    /// Whether a row's field is read at all.
    pub fn reads(&self, field: usize) -> bool {
        let fields = [self.txn_ref, Some(self.amount), self.dossier, self.status, self.time, self.refund_of];
        fields.contains(&Some(field))
    }

    /// `txn_ref="Mã GD" amount="Số tiền" …`
    pub fn describe(&self) -> String {
        let columns = [
            ("txn_ref", self.txn_ref),
            ("dossier", self.dossier),
            ("amount", Some(self.amount)),
            ("status", self.status),
            ("time", self.time),
            ("refund_of", self.refund_of),
        ];
        let shown = columns.map(|(name, index)| match index {
            Some(index) => format!("{name}={:?}", self.headers[index]),
            None => format!("{name}=(none)"),
        });
        shown.join(" ")
    }
}

/// The delimiter that splits a header into most fields.
pub fn delimiter(header: &[u8]) -> u8 {
    let count = |delimiter: &u8| memchr::memchr_iter(*delimiter, header).count();
    // Of equals `max_by_key` takes the last.
    [b'|', b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}

pub fn status(cell: &[u8]) -> Result<Status, Rejection> {
    match cell {
        b"paid" => return Ok(Status::Paid),
        b"settled" => return Ok(Status::Settled),
        _ => {}
    }
    let Ok(text) = std::str::from_utf8(cell) else {
        return Err(Rejection::new(Reason::Encoding, "the status is not UTF-8"));
    };
    let word = plain(text);
    let known = WORDS.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(status, _)| *status);
    known
        .or_else(|| Status::parse(&word))
        .ok_or_else(|| Rejection::new(Reason::Status, format!("{:?} is no status that is known", shorten(text))))
}

/// ISO 8601, and what banks write instead.
pub fn time(cell: &str, iso: &TimeFormat) -> Result<Timestamp, Rejection> {
    const FORMATS: [&str; 4] = ["%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%Y%m%d%H%M%S", "%d/%m/%Y"];
    iso.parse(cell).or_else(|error| {
        let other =
            |format: &&str| TimeFormat { format: Some((*format).to_string()), zone: iso.zone.clone() }.parse(cell).ok();
        FORMATS.iter().find_map(other).ok_or(error)
    })
}
