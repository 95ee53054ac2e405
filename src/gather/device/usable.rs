//! Whether a device that is up does what it is for: a pure function of what it says and the time.
//!
//! Up is not usable: a camera whose picture has frozen keeps its frame rate, and a hotspot whose uplink is gone still has
//! clients. What a device does not say is not held against it; a device that says nothing of its work is not judged.

/// What is held against a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Seconds for which a camera's picture may stay the same. Even at night a sensor's noise changes it.
    pub picture_frozen: f64,
    /// Seconds by which a camera's clock may be off: beyond, its recordings prove nothing.
    pub clock_offset: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { picture_frozen: 3_600.0, clock_offset: 300.0 }
    }
}

/// What a camera last said; `None`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Camera {
    pub frames_per_second: Option<f64>,
    /// 1 or 0.
    pub recording: Option<f64>,
    /// Seconds since 1970.
    pub picture_changed: Option<f64>,
    pub clock_offset: Option<f64>,
}

impl Camera {
    /// Frames arrive, the picture changes, it is recorded, and the clock is right. `now` in seconds since 1970.
    pub fn is_usable(&self, limits: &Limits, now: f64) -> Option<bool> {
        all(&[
            self.frames_per_second.map(|frames| frames > 0.0),
            self.recording.map(|recording| recording > 0.0),
            self.picture_changed.map(|changed| now - changed < limits.picture_frozen),
            self.clock_offset.map(|offset| offset.abs() <= limits.clock_offset),
        ])
    }
}

/// What a hotspot last said; `None`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Hotspot {
    /// 1 or 0.
    pub uplink_up: Option<f64>,
    pub uplink_loss: Option<f64>,
    pub pool_free: Option<f64>,
}

impl Hotspot {
    /// The internet can be reached, and a new client gets an address.
    pub fn is_usable(&self) -> Option<bool> {
        all(&[
            self.uplink_up.map(|up| up > 0.0),
            self.uplink_loss.map(|loss| loss < 1.0),
            self.pool_free.map(|free| free > 0.0),
        ])
    }
}

/// Of what is known; `None` if nothing is.
fn all(known: &[Option<bool>]) -> Option<bool> {
    known.iter().flatten().copied().reduce(|a, b| a && b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_is_usable_by_what_it_says() {
        let now = 1_800_000_000.0;
        let good = Camera {
            frames_per_second: Some(25.0),
            recording: Some(1.0),
            picture_changed: Some(now - 2.0),
            clock_offset: Some(-0.3),
        };
        let frozen = now - 3_600.0;
        for (name, camera, usable) in [
            ("all is well", good, Some(true)),
            ("it says nothing", Camera::default(), None),
            ("frames alone", Camera { frames_per_second: Some(1.0), ..Camera::default() }, Some(true)),
            ("no frames", Camera { frames_per_second: Some(0.0), ..good }, Some(false)),
            ("not recorded", Camera { recording: Some(0.0), ..good }, Some(false)),
            ("the picture is frozen though frames come", Camera { picture_changed: Some(frozen), ..good }, Some(false)),
            ("almost", Camera { picture_changed: Some(frozen + 1.0), ..good }, Some(true)),
            (
                "a picture of the future is the clock's matter",
                Camera { picture_changed: Some(now + 9e9), ..good },
                Some(true),
            ),
            ("the clock is an hour fast", Camera { clock_offset: Some(3_600.0), ..good }, Some(false)),
            ("the clock is an hour slow", Camera { clock_offset: Some(-3_600.0), ..good }, Some(false)),
        ] {
            assert_eq!(camera.is_usable(&Limits::default(), now), usable, "{name}");
        }
    }

    #[test]
    fn a_hotspot_is_usable_while_clients_get_somewhere() {
        let good = Hotspot { uplink_up: Some(1.0), uplink_loss: Some(0.4), pool_free: Some(0.1) };
        for (name, hotspot, usable) in [
            ("all is well", good, Some(true)),
            ("it says nothing", Hotspot::default(), None),
            ("no uplink", Hotspot { uplink_up: Some(0.0), ..good }, Some(false)),
            ("everything is lost on the way", Hotspot { uplink_loss: Some(1.0), ..good }, Some(false)),
            ("no address left", Hotspot { pool_free: Some(0.0), ..good }, Some(false)),
            ("the uplink alone", Hotspot { uplink_up: Some(1.0), ..Hotspot::default() }, Some(true)),
        ] {
            assert_eq!(hotspot.is_usable(), usable, "{name}");
        }
    }
}
