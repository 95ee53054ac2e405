//! The names, types, labels and help of every family that lives in columns. `docs/metrics.md` is generated from here.
//!
//! The names and labels are a contract with dashboards and rules outside this program.

/// How a family is exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        }
    }
}

/// One metric family.
#[derive(Debug)]
pub struct Family {
    /// The full name; counters end in `_total`.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// The families that share their label names and their subjects.
#[derive(Debug)]
pub struct TableDefinition {
    pub labels: &'static [&'static str],
    pub families: &'static [Family],
}

/// Which table, see [`columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TableId(pub(super) usize);

impl TableId {
    /// Its labels and families.
    pub fn definition(self) -> &'static TableDefinition {
        &TABLES[self.0]
    }
}

/// Which family of a table, see [`columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Column(pub(super) usize);

impl Column {
    /// The column of a table that has only one.
    pub const FIRST: Column = Column(0);

    /// The column of `family` (full name) in the table `table`.
    pub fn find(table: TableId, family: &str) -> Option<Column> {
        TABLES[table.0].families.iter().position(|candidate| candidate.name == family).map(Column)
    }
}

/// Declares the tables: a module of constants for each, and [`TABLES`] in the same order.
macro_rules! tables {
    ($($table:ident ($($label:literal),*) { $($column:ident $kind:ident $name:literal $help:literal;)* })*) => {
        /// One module a table: its `TABLE` id and one constant a column.
        pub mod columns {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum Tables { $($table),* }
            $(
                pub mod $table {
                    use super::super::{Column, TableId};
                    /// Identifies this table.
                    pub const TABLE: TableId = TableId(super::Tables::$table as usize);
                    #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
                    enum Columns { $($column),* }
                    $(
                        #[doc = $help]
                        pub const $column: Column = Column(Columns::$column as usize);
                    )*
                }
            )*
        }

        /// Every table, in the order of their [`TableId`]s.
        pub static TABLES: &[TableDefinition] = &[$(TableDefinition {
            labels: &[$($label),*],
            families: &[$(Family { name: $name, kind: Kind::$kind, help: $help }),*],
        }),*];
    };
}

tables! {
    service ("agency", "service", "kind") {
        UP Gauge "ioc_service_up" "1 if the last check of the service was ok or slow, 0 if not; absent while it is not checked.";
    }
    service_query ("agency", "service", "kind") {
        VALUE Gauge "ioc_service_query_value" "The number that the service's query last gave; absent when it gave none.";
        NEWEST Gauge "ioc_service_data_newest_timestamp_seconds" "Time of the newest row of the service's data at the last check; absent when it could not be read.";
        MAX_AGE Gauge "ioc_service_data_max_age_seconds" "How old the newest row may be, by configuration.";
    }
    service_excused ("agency", "service", "kind", "cause") {
        EXCUSED Gauge "ioc_service_excused" "1 while the service's outage is somebody else's: the cause.";
    }
    service_phase ("agency", "service", "kind", "phase") {
        SECONDS Gauge "ioc_service_phase_seconds" "Duration of a phase of the last check.";
    }
    service_step ("agency", "service", "kind", "step") {
        SECONDS Gauge "ioc_service_step_seconds" "Duration of a step of the last journey.";
        FAILED Gauge "ioc_service_step_failed" "1 if the step failed in the last journey, 0 if it did not; absent if it was not reached.";
    }
    service_checks ("agency", "service", "kind", "result") {
        CHECKS Counter "ioc_service_checks_total" "Checks of the service by result.";
    }
    service_tls ("agency", "service", "kind", "cert") {
        EXPIRY Gauge "ioc_service_tls_expiry_timestamp_seconds" "When the certificate (leaf, or the earliest of the chain) expires.";
    }
    dependency ("agency", "dependency", "cause") {
        UP Gauge "ioc_dependency_up" "1 if the dependency answers, 0 if not.";
    }
    payment_records ("agency", "side", "status") {
        RECORDS Counter "ioc_payment_records_total" "Payment rows read, by side and status.";
    }
    payment_mismatch ("agency", "kind") {
        OPEN Gauge "ioc_payment_mismatches_open" "Open differences between the portal's and the gateway's payments.";
        AMOUNT Gauge "ioc_payment_mismatch_amount_dong" "Money in open differences, in dong.";
        OLDEST Gauge "ioc_payment_mismatch_oldest_timestamp_seconds" "Time of the oldest open difference.";
        OPENED Counter "ioc_payment_mismatches_total" "Differences found.";
        RESOLVED Counter "ioc_payment_mismatches_resolved_total" "Differences that ended.";
    }
    feed ("agency", "feed") {
        LAST_SUCCESS Gauge "ioc_feed_last_success_timestamp_seconds" "When the feed was last read without an error.";
        ROWS Counter "ioc_feed_rows_total" "Rows accepted from the feed.";
        OVERDUE Gauge "ioc_feed_overdue_seconds" "How long the feed's rows are overdue, 0 while they are in time; absent for a feed without expect.";
    }
    feed_failures ("agency", "feed", "reason") {
        FAILURES Counter "ioc_feed_failures_total" "Times the feed could not be read, by reason.";
    }
    feed_rejected ("agency", "feed", "reason") {
        REJECTED Counter "ioc_feed_rows_rejected_total" "Rows of the feed that could not be used; kept under rejected/.";
    }
    device ("agency", "kind", "site", "device") {
        INSTALLED Gauge "ioc_device_installed" "1 if the inventory says that the device is installed, 0 if it is only planned.";
        UP Gauge "ioc_device_up" "1 if the device speaks, 0 if not; absent while unknown.";
        USABLE Gauge "ioc_device_usable" "1 if the device does what it is for, by what it says of its work; absent while it says nothing of it.";
        LAST_SEEN Gauge "ioc_device_last_seen_timestamp_seconds" "When the device last spoke.";
    }
    device_excused ("agency", "kind", "site", "device", "cause") {
        EXCUSED Gauge "ioc_device_excused" "1 while the device's outage is somebody else's: the cause.";
    }
    device_flaps ("agency", "kind") {
        FLAPS Counter "ioc_device_flaps_total" "Times that a device came back within an hour after it had gone.";
    }
    device_info ("agency", "kind", "site", "device", "village", "name", "lat", "lon") {
        INFO Gauge "ioc_device_info" "1; the village, name and place (degrees, empty if unknown) of the device.";
    }
    village ("agency", "village") {
        CAMERAS_PLANNED Gauge "ioc_village_cameras_planned" "Cameras of the village by the inventory, installed or yet to be.";
        CAMERAS_INSTALLED Gauge "ioc_village_cameras_installed" "Cameras of the village that the inventory calls installed.";
        CAMERAS_UP Gauge "ioc_village_cameras_up" "Installed cameras of the village that speak.";
        CAMERAS_USABLE Gauge "ioc_village_cameras_usable" "Installed cameras of the village that are known to deliver a usable picture.";
        HOTSPOTS_PLANNED Gauge "ioc_village_hotspots_planned" "Hotspots of the village by the inventory, installed or yet to be.";
        HOTSPOTS_INSTALLED Gauge "ioc_village_hotspots_installed" "Hotspots of the village that the inventory calls installed.";
        HOTSPOTS_UP Gauge "ioc_village_hotspots_up" "Installed hotspots of the village that speak.";
        HOTSPOTS_USABLE Gauge "ioc_village_hotspots_usable" "Installed hotspots of the village that are known to reach the internet.";
    }
    camera ("agency", "site", "device") {
        FRAMES Gauge "ioc_camera_frames_per_second" "Frames a second the camera delivers.";
        BITRATE Gauge "ioc_camera_bitrate_bits_per_second" "Bits a second the camera delivers.";
        RECORDING Gauge "ioc_camera_recording" "1 while the camera's picture is recorded.";
        STORAGE_FREE Gauge "ioc_camera_storage_free_ratio" "Free share of the recorder's storage.";
        PICTURE_CHANGED Gauge "ioc_camera_picture_changed_timestamp_seconds" "When the picture last changed.";
        CLOCK_OFFSET Gauge "ioc_camera_clock_offset_seconds" "The camera's clock less ours.";
        TEMPERATURE Gauge "ioc_camera_temperature_celsius" "Temperature inside the camera.";
        UPTIME Gauge "ioc_camera_uptime_seconds" "Time since the camera started.";
    }
    hotspot ("agency", "site", "device") {
        CLIENTS Gauge "ioc_hotspot_clients" "Clients connected to the hotspot.";
        RECEIVED Counter "ioc_hotspot_receive_bytes_total" "Bytes received from clients.";
        TRANSMITTED Counter "ioc_hotspot_transmit_bytes_total" "Bytes sent to clients.";
        UPLINK_UP Gauge "ioc_hotspot_uplink_up" "1 while the hotspot reaches the internet.";
        UPLINK_LATENCY Gauge "ioc_hotspot_uplink_latency_seconds" "Round trip over the hotspot's uplink.";
        UPLINK_LOSS Gauge "ioc_hotspot_uplink_loss_ratio" "Share of packets lost on the hotspot's uplink.";
        POOL_FREE Gauge "ioc_hotspot_address_pool_free_ratio" "Free share of the hotspot's address pool.";
        TEMPERATURE Gauge "ioc_hotspot_temperature_celsius" "Temperature inside the hotspot.";
        UPTIME Gauge "ioc_hotspot_uptime_seconds" "Time since the hotspot started.";
    }
    broker ("agency", "broker") {
        CONNECTED Gauge "ioc_mqtt_connected" "1 while connected to the broker.";
        UNLISTED Gauge "ioc_mqtt_devices_unlisted" "Devices heard that no inventory lists (counted up to a bound).";
        DROPPED Counter "ioc_mqtt_broker_dropped_total" "Messages that the broker dropped for any of its clients, by its own count ($SYS of mosquitto); absent if it does not say.";
        REBIRTHS Counter "ioc_mqtt_rebirths_requested_total" "Sparkplug nodes asked to send their births again.";
    }
    broker_messages ("agency", "broker", "result") {
        MESSAGES Counter "ioc_mqtt_messages_total" "MQTT messages received, by what became of them.";
    }
    app ("agency", "app") {
        ACTIVE_USERS Gauge "ioc_app_active_users" "Users of the application in the last period reported; from an access log, of the day so far.";
        LAST_USED Gauge "ioc_app_last_used_timestamp_seconds" "End of the last period in which anybody used the application; absent if nobody ever did.";
        UNUSED Gauge "ioc_app_unused_working_days" "Whole working days without a user, as far as there are reports.";
        UNUSED_LIMIT Gauge "ioc_app_unused_limit_working_days" "Working days after which the application counts as unused, by configuration.";
    }
    access_log ("agency", "app", "result") {
        LINES Counter "ioc_access_log_lines_total" "Lines of the application's access log, by what became of them.";
    }
    access_log_file ("agency", "app") {
        LAST_LINE Gauge "ioc_access_log_last_line_timestamp_seconds" "Time of the newest line read since the start of the program.";
        LOST Counter "ioc_access_log_rotations_lost_total" "Rotated files that were compressed or removed before they were read to their end.";
    }
    app_events ("agency", "app", "event") {
        EVENTS Counter "ioc_app_events_total" "Events of the application.";
    }
    dossiers ("agency", "step", "channel", "outcome") {
        DOSSIERS Counter "ioc_dossiers_total" "Dossiers by step, channel and outcome.";
    }
    dossier_month ("agency", "step", "channel") {
        DOSSIERS Gauge "ioc_dossiers_month" "Dossiers that took the step in the present month, as last corrected.";
    }
    dossier_standing ("agency", "app") {
        OPEN Gauge "ioc_dossiers_open" "Dossiers without a result yet; only where a feed names them one by one.";
        WITHOUT_RECEIPT Gauge "ioc_dossiers_without_receipt" "Dossiers submitted for longer than the configured time without a receipt slip.";
        DUE_SOON Gauge "ioc_dossiers_due_soon" "Open dossiers due within the configured working time.";
        OVERDUE Gauge "ioc_dossiers_overdue" "Open dossiers past their due date.";
        WITHOUT_APOLOGY Gauge "ioc_dossiers_without_apology" "Open dossiers that owe their citizen a letter of apology which was not sent.";
        LONGEST_OVERDUE Gauge "ioc_dossiers_longest_overdue_working_seconds" "Working time since the due date of the dossier that is longest overdue; 0 if none is.";
    }
    target ("agency", "app", "target") {
        GOAL Gauge "ioc_target_goal" "Dossiers that the agency is to reach in the present period.";
        DONE Gauge "ioc_target_done" "Dossiers reached in the present period.";
        OBSERVED Gauge "ioc_target_observed_per_working_day" "Dossiers a working day since the period began.";
        NEEDED Gauge "ioc_target_needed_per_working_day" "Dossiers a working day that would still reach the goal; absent if no working time is left.";
        PROJECTED Gauge "ioc_target_projected" "Dossiers at the end of the period at the observed pace.";
        DAYS_ELAPSED Gauge "ioc_target_working_days_elapsed" "Working days since the period began, as far as there are reports.";
        DAYS_LEFT Gauge "ioc_target_working_days_left" "Working days until the period ends.";
        END Gauge "ioc_target_end_timestamp_seconds" "When the period ends.";
    }
    host ("agency") {
        CPU_RATIO Gauge "ioc_host_cpu_usage_ratio" "Share of all cores that is busy.";
        MEMORY_TOTAL Gauge "ioc_host_memory_total_bytes" "Memory of the machine.";
        MEMORY_AVAILABLE Gauge "ioc_host_memory_available_bytes" "Memory that a new program could have.";
        LOAD1 Gauge "ioc_host_load1" "Load average over 1 minute.";
        LOAD5 Gauge "ioc_host_load5" "Load average over 5 minutes.";
        LOAD15 Gauge "ioc_host_load15" "Load average over 15 minutes.";
        UPTIME Gauge "ioc_host_uptime_seconds" "Time since the machine started.";
    }
    host_core ("agency", "core") {
        CPU_RATIO Gauge "ioc_host_core_usage_ratio" "Share of the core that is busy.";
    }
    host_disk ("agency", "mount") {
        SIZE Gauge "ioc_host_disk_size_bytes" "Size of the file system.";
        FREE Gauge "ioc_host_disk_free_bytes" "Free bytes of the file system.";
    }
    host_network ("agency", "interface") {
        RECEIVED Counter "ioc_host_network_receive_bytes_total" "Bytes received on the interface.";
        TRANSMITTED Counter "ioc_host_network_transmit_bytes_total" "Bytes sent on the interface.";
    }
    agency ("agency", "name", "level", "parent", "leader") {
        INFO Gauge "ioc_agency_info" "1; the agency's name, level, parent and leader's person id.";
    }
    agency_score ("agency") {
        SCORE Gauge "ioc_agency_score" "Score (0 to 100) of the agency in the last evaluated week; absent when it could not be judged.";
        UNDERPERFORMING Gauge "ioc_agency_underperforming" "1 if the agency's score is below the threshold.";
    }
    agency_indicator ("agency", "indicator") {
        VALUE Gauge "ioc_agency_indicator" "Value of the indicator in the last evaluated week.";
    }
    heartbeat ("agency", "heartbeat") {
        LAST Gauge "ioc_heartbeat_last_timestamp_seconds" "When the one who has to say that they live was last heard; absent if never.";
        MISSING Gauge "ioc_heartbeat_missing" "1 while they are silent for longer than they may be, 0 while not.";
        WITHIN Gauge "ioc_heartbeat_within_seconds" "How long they may be silent, by configuration.";
    }
    incidents ("agency", "area", "severity") {
        OPEN Gauge "ioc_incidents_open" "Open incidents.";
    }
    incidents_unowned ("agency", "area") {
        NOBODY Gauge "ioc_incidents_without_responsible" "Open incidents of an agency in which nobody answers for the area; absent if there are none.";
    }
}
