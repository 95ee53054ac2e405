//! Alerts grouped into incidents, and who is told.
//!
//! An alert is [`address`]ed (agency, area, severity) and joins the open incident of its group; `excuse` asks the
//! attribution ledger whether its subject is to blame, `quiet` whether a [`silence`] or another alert keeps people from
//! being told; the [`life`] of an incident says when something is to be told; [`who`] says to whom; `letter` writes it; [`Incidents`] keeps all of it
//! in the state database, mails included, in one transaction. It does not know how an alert came to be.

mod acts;
pub mod address;
mod call;
mod change;
mod curve;
pub mod escalation;
mod event;
mod excuse;
mod failures;
pub mod foresee;
mod handover;
mod inhibit;
mod letter;
pub mod life;
mod link;
mod measure;
mod member;
pub mod names;
mod quiet;
mod rows;
mod run;
mod settings;
pub mod silence;
mod stage;
mod tell;
mod timeline;
pub mod who;
pub mod words;
mod writes;

pub use acts::{Deed, Done};
pub use address::Severity;
pub use curve::{Curve, Measure, sample as sample_curve};
pub use excuse::PlacedDevice;
pub use letter::{Evidence, Exhibits, NoEvidence, handover_subject};
pub use life::{Excused, Incident, Member, News, Why};
pub use link::{BadLink, Claim};
pub use quiet::Listed;
pub use rows::Entry;
pub use settings::Routing;
pub use stage::Incidents;
