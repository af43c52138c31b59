package main

// process is how the program itself does: memory, connections, file descriptors, time.
func process() board {
	return board{
		uid: "callbackd-runtime", title: "callbackd / Runtime",
		description: "The process and what bounds it: processor, memory, connections, file descriptors.",
		rows: []row{
			{"Now", []panel{
				{look: number, title: "Up", unit: "none", width: 6, runbook: "CallbackdDown", meanings: yesNo("up", "down"),
					queries:     []query{q(`min(up{job="$job", instance=~"$instance"})`, "")},
					description: "Whether Prometheus can scrape it."},
				{look: number, title: "Running for", unit: "s", width: 6, runbook: "CallbackdRestarting",
					queries:     []query{q("time() - max("+selected("process_start_time_seconds")+")", "")},
					description: "Time since the last start."},
				{look: number, title: "Version", unit: "none", width: 6,
					queries:     []query{q("count by (version) ("+selected("callbackd_build_info")+")", "{{version}}")},
					description: "Instances by version."},
				{look: number, title: "File descriptors in use", unit: "percentunit", width: 6, runbook: "CallbackdFileDescriptorsNearLimit", thresholds: yellowRed(0.8, 0.95),
					queries:     []query{q("max("+selected("process_open_fds")+" / "+selected("process_max_fds")+")", "")},
					description: "Without one left no connection is accepted."},
			}},
			{"Process", []panel{
				{look: lines, title: "Processor", unit: "none", width: 8,
					queries:     []query{q(sum("instance", rate(selected("process_cpu_seconds_total"))), "{{instance}}")},
					description: "Processors in use."},
				{look: lines, title: "Memory", unit: "bytes", width: 8,
					queries: []query{
						q(sum("instance", selected("process_resident_memory_bytes")), "resident {{instance}}"),
						q(sum("instance", selected("go_memstats_heap_inuse_bytes")), "heap {{instance}}"),
						q(sum("instance", selected("go_gc_gomemlimit_bytes"))+" < 1e18", "GOMEMLIMIT {{instance}}"),
					},
					description: "GOMEMLIMIT is taken from the limit of the container; without one it is not shown."},
				{look: lines, title: "Goroutines", unit: "short", width: 8, runbook: "CallbackdAttemptsStuck",
					queries:     []query{q(sum("instance", selected("go_goroutines")), "{{instance}}")},
					description: "A number that only grows is a leak: of connections, or of attempts that do not end."},
				{look: lines, title: "Pauses of the garbage collector, longest", unit: "s", width: 8,
					queries:     []query{q("max by (instance) ("+selected("go_gc_duration_seconds", `quantile=~"1|1[.]0"`)+")", "{{instance}}")},
					description: "Longest of the last collections."},
				{look: lines, title: "File descriptors", unit: "short", width: 8, runbook: "CallbackdFileDescriptorsNearLimit",
					queries: []query{
						q(sum("instance", selected("process_open_fds")), "open {{instance}}"),
						q(sum("instance", selected("process_max_fds")), "limit {{instance}}"),
					},
					description: "Open ones, and how many there may be."},
				{look: lines, title: "Panics", unit: "none", width: 8, runbook: "CallbackdPanics",
					queries: []query{
						q(sum("instance", "increase("+selected("callbackd_refusals_total", `reason="panic"`)+"[1h])"), "requests {{instance}}"),
						q(sum("instance", "increase("+selected("callbackd_delivery_attempts_total", `reason="panic"`)+"[1h])"), "deliveries {{instance}}"),
					},
					description: "Bugs met within an hour. The program goes on."},
			}},
			{"Listeners", []panel{
				{look: lines, title: "Connections", unit: "short", width: 8, runbook: "CallbackdConnectionsNearLimit",
					queries: []query{
						q(sum("service", selected("callbackd_connections"))+" > 0", "{{service}}"),
						q("max("+selected("callbackd_connections_limit")+")", "limit of a listener"),
					},
					description: "Open connections of each listener, under the first of its services."},
				{look: lines, title: "Memory for requests", unit: "bytes", width: 8,
					queries: []query{
						q(sum("", selected("callbackd_in_flight_bytes")), "set aside"),
						q(sum("", selected("callbackd_in_flight_limit_bytes")), "limit"),
					},
					description: "Beyond the limit requests wait, and are then refused with in_flight."},
				{look: lines, title: "Waits and failures to accept", unit: "cps", width: 8, runbook: "CallbackdAcceptErrors",
					queries: []query{
						q(sum("", rate(selected("callbackd_in_flight_waits_total"))), "requests that waited for memory"),
						q(sum("", rate(selected("callbackd_accept_errors_total"))), "connections not accepted"),
					},
					description: "Both are signs of a limit that is too low, or of too much traffic."},
			}},
			{"Disk and log", []panel{
				{look: lines, title: "Disk of data_dir", unit: "bytes", width: 12, runbook: "CallbackdDiskLow",
					queries: []query{
						q("min("+selected("callbackd_disk_free_bytes")+")", "free"),
						q("max("+selected("callbackd_disk_warn_free_bytes")+")", "warn_free"),
						q("max("+selected("callbackd_disk_shed_free_bytes")+")", "shed_free"),
					},
					description: "What is free. Below warn_free the log warns; below shed_free callbacks are refused before the store is full."},
				{look: number, tall: true, title: "Shedding", unit: "none", width: 4, runbook: "CallbackdDiskShedding", meanings: noYes("no", "yes"),
					queries:     []query{q("max("+selected("callbackd_disk_shedding")+")", "")},
					description: "Whether callbacks are refused because the disk is nearly full."},
				{look: lines, title: "Log lines left out", unit: "cps", width: 8,
					queries:     []query{q(sum("message, reason", rate(selected("callbackd_log_suppressed_total")))+" > 0", "{{message}} {{reason}}")},
					description: "Lines not written because of log.sample_received and log.refusals_per_minute. Counters have them all."},
			}},
			{"Configuration and certificates", []panel{
				{look: number, tall: true, title: "Last reload", unit: "none", width: 4, runbook: "CallbackdConfigRejected", meanings: yesNo("taken", "rejected"),
					queries:     []query{q("min("+selected("callbackd_config_last_reload_successful")+")", "")},
					description: "Whether the configuration that was read last is in force. One that is rejected changes nothing, and would not start."},
				{look: number, tall: true, title: "Restart needed", unit: "none", width: 4, runbook: "CallbackdRestartNeeded", meanings: noYes("no", "yes"),
					queries:     []query{q("max("+selected("callbackd_config_restart_needed")+")", "")},
					description: "Whether keys have changed that cannot be changed while callbackd runs; the log names them."},
				{look: lines, title: "Reloads", unit: "none", width: 8, runbook: "CallbackdConfigRejected",
					queries:     []query{q(sum("result", "increase("+selected("callbackd_config_reloads_total")+"[1h])"), "{{result}}")},
					description: "Readings of the configuration within an hour, and what became of them."},
				{look: lines, title: "Certificates expire in", unit: "s", width: 8, runbook: "CallbackdCertificateExpiring",
					queries:     []query{q("min by (service) ("+selected("callbackd_certificate_expiry_timestamp_seconds")+") - time()", "{{service}}")},
					description: "Time until the certificate expires that the service's listener shows. Empty without TLS."},
			}},
		},
	}
}
