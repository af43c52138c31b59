package main

// ours are the reasons of refusals that are our fault, as in the recording rules.
const ours = `reason=~"in_flight|disk_full|overloaded|store_unavailable|store_broken|closing|panic|internal"`

// Bad is red, and worth a look is yellow.
func red(from float64) []step            { return []step{{from, "red"}} }
func yellow(from float64) []step         { return []step{{from, "orange"}} }
func yellowRed(yellow, r float64) []step { return []step{{yellow, "orange"}, {r, "red"}} }

func yesNo(yes, no string) map[string]meaning {
	return map[string]meaning{"1": {yes, "green"}, "0": {no, "red"}}
}

func noYes(no, yes string) map[string]meaning {
	return map[string]meaning{"0": {no, "green"}, "1": {yes, "red"}}
}

// overview is what to look at first: is every callback acknowledged, in time, for each service?
func overview() board {
	failed := sum("", increase(served("callbackd_refusals_total", ours))) + " + " + sum("", increase(served("callbackd_ack_seconds_count"))) +
		" - " + sum("", increase(served("callbackd_ack_seconds_bucket", `le=~"3|3[.]0"`)))
	valid := sum("", increase(served("callbackd_refusals_total", ours))) + " + " + sum("", increase(served("callbackd_ack_seconds_count")))
	return board{
		uid: "callbackd-overview", title: "callbackd / Overview", variables: []string{"service"},
		description: "Whether callbacks are acknowledged, and in time, by service. Begin here.",
		rows: []row{
			{"Now", []panel{
				{look: number, title: "Acknowledged", unit: "cps", width: 4, queries: []query{q(sum("", rate(served("callbackd_acks_total"))), "callbacks")},
					description: "Callbacks acknowledged in a second: stored durably, duplicates included."},
				{look: number, title: "Objective 99.9%", unit: "percentunit", width: 4, runbook: "CallbackdAckBudgetBurningFast",
					queries:     []query{q("1 - ("+failed+") / ("+valid+")", "good")},
					thresholds:  []step{{0, "red"}, {0.999, "green"}},
					description: "Share of the callbacks in the time shown that were acknowledged within 3 s, of those that were not refused for what the sender got wrong."},
				{look: number, title: "Time to acknowledge, p99", unit: "s", width: 4, runbook: "CallbackdAckBudgetBurningFast", thresholds: yellowRed(1, 3),
					queries:     []query{q(quantile(0.99, "", served("callbackd_ack_seconds_bucket")), "p99")},
					description: "The platform gives up after about 4 s."},
				{look: number, title: "Refused by our fault", unit: "none", width: 4, runbook: "CallbackdAckBudgetBurningFast", thresholds: red(0.5),
					queries:     []query{q(sum("", increase(served("callbackd_refusals_total", ours))), "refused")},
					description: "Requests in the time shown that were answered with 503. Most come again, as long as they have tries."},
				{look: number, title: "Refused on the last try", unit: "none", width: 4, runbook: "CallbackdLastTriesRefused", thresholds: red(0.5),
					queries:     []query{q(sum("", increase(served("callbackd_refused_last_tries_total"))), "lost")},
					description: "Callbacks in the time shown that the platform will not send again by itself: lost, unless its support resends them."},
				{look: number, title: "Alerts firing", unit: "none", width: 4, thresholds: red(1),
					queries:     []query{q(`count(ALERTS{job="$job", alertname=~"Callbackd.+", alertstate="firing"}) or vector(0)`, "alerts")},
					description: "Alerts of callbackd that fire now. Those below say which."},
			}},
			{"Callbacks", []panel{
				{look: areas, title: "Acknowledged by service", unit: "cps", width: 12, runbook: "CallbackdListenerSilent",
					queries:     []query{q(sum("service", rate(served("callbackd_acks_total"))), "{{service}}")},
					description: "Callbacks acknowledged in a second."},
				{look: areas, title: "Refusals by reason", unit: "cps", width: 12, runbook: "CallbackdAckBudgetBurningFast",
					queries:     []query{q(sum("reason", rate(served("callbackd_refusals_total")))+" > 0", "{{reason}}")},
					description: "Requests refused in a second. in_flight, disk_full, overloaded, store_unavailable, store_broken, closing, panic and internal are our fault, and answered with 503."},
				{look: heat, title: "Time to acknowledge", unit: "s", width: 12, runbook: "CallbackdAckBudgetBurningFast",
					queries:     []query{q(sum("le", rate(served("callbackd_ack_seconds_bucket"))), "{{le}}")},
					description: "How many acknowledgements took how long, from the arrival of the request."},
				{look: lines, title: "Time to acknowledge, p99 by service", unit: "s", width: 12, runbook: "CallbackdAckBudgetBurningFast", thresholds: yellowRed(1, 3),
					queries:     []query{q(quantile(0.99, "service", served("callbackd_ack_seconds_bucket")), "{{service}}")},
					description: "Nearly all acknowledgements of the service are faster. The platform gives up after about 4 s."},
			}},
			{"Objective and silence", []panel{
				{look: lines, title: "Share of callbacks that fail", unit: "percentunit", width: 8, runbook: "CallbackdAckBudgetBurningSlowly", thresholds: red(0.001),
					queries: []query{
						q(`job:callbackd_callbacks_failed:ratio_rate5m{job="$job"}`, "5 minutes"), q(`job:callbackd_callbacks_failed:ratio_rate1h{job="$job"}`, "1 hour"),
						q(`job:callbackd_callbacks_failed:ratio_rate6h{job="$job"}`, "6 hours"), q(`job:callbackd_callbacks_failed:ratio_rate3d{job="$job"}`, "3 days"),
					},
					description: "What was refused by our fault or acknowledged after 3 s, in several windows, all services together. The objective allows what is below the line."},
				{look: lines, title: "Since the last callback", unit: "s", width: 8, runbook: "CallbackdListenerSilent",
					queries:     []query{q("time() - ("+served("callbackd_last_ack_timestamp_seconds")+" > 0)", "{{service}}")},
					description: "Time since the last acknowledgement, by service. Those that never had one are left out."},
				{look: lines, title: "Compared with last week", unit: "none", width: 8, runbook: "CallbackdListenerSilent",
					queries: []query{
						q(`sum(service:callbackd_acks:increase2h{job="$job", service=~"$service"})`, "these 2 hours"),
						q(`sum(service:callbackd_acks:increase2h{job="$job", service=~"$service"} offset 1w)`, "a week ago"),
						q(`sum(service:callbackd_acks:increase2h{job="$job", service=~"$service"} offset 2w)`, "two weeks ago"),
					},
					description: "Callbacks acknowledged within 2 hours, and at the same time in the weeks before."},
			}},
			{"State", []panel{
				{look: states, title: "Alerts", width: 8, queries: []query{q(`max by (alertname, alertstate) (ALERTS{job="$job", alertname=~"Callbackd.+"})`, "{{alertname}} {{alertstate}}")},
					thresholds:  red(1),
					description: "Alerts that were pending or fired. Each has a page of its name among the runbooks."},
				{look: states, title: "Ready", width: 8, runbook: "CallbackdNotReady", meanings: yesNo("passes", "fails"),
					queries:     []query{q("min by (check) ("+selected("callbackd_ready")+")", "{{check}}")},
					description: "The checks of /readyz. inbox, listeners, drain and disk_full decide whether callbacks are acknowledged; the others only degrade."},
				{look: lines, title: "Heartbeat", unit: "s", width: 8, runbook: "CallbackdHeartbeatLost",
					queries: []query{
						q("max("+selected("callbackd_heartbeat_age_seconds")+")", "since the last"),
						q("3 * max("+selected("callbackd_heartbeat_interval_seconds")+")", "when the alert fires"),
						q(quantile(0.99, "", selected("callbackd_heartbeat_seconds_bucket")), "whole way, p99"),
					},
					description: "callbackd posts a callback to itself at an interval, through everything that a real one goes through. Empty while heartbeats are off."},
			}},
		},
	}
}
