//! Cameras and hotspots over MQTT.
