package firewall

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"callbackd/internal/auth"
)

// comment writes a text, each line of it as a comment: all formats begin one with #.
func comment(b *strings.Builder, text string) {
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
}

// writeHeader tells what made the rules, from what, and what to do with them.
func writeHeader(b *strings.Builder, format Format, p *plan) {
	sections := []string{fmt.Sprintf("Made by `callbackd firewall render --format %s` from %s.\n", format, printable(p.file))}
	if len(p.receiver.targets) > 0 {
		sections = append(sections, "Where callbackd listens, these ports are for "+p.peers()+" alone:\n"+p.receiver.services(false))
	}
	if len(p.front.targets) > 0 {
		sections = append(sections, "In front of it, these ports are for network.allow alone:\n"+p.front.services(true))
	}
	sections = append(append(sections, p.about()...), usage(format))
	comment(b, strings.Join(sections, "\n"))
	b.WriteString("\n")
}

func (p *plan) peers() string {
	if p.proxied() {
		return "network.trusted_proxies"
	}
	return "network.allow"
}

// services lists the ports with what they are for.
func (g gate) services(public bool) string {
	var b strings.Builder
	for _, l := range g.listeners {
		if public {
			fmt.Fprintf(&b, "  %-5d %s\n", l.called(), l.Service)
			continue
		}
		fmt.Fprintf(&b, "  %-5d %s", l.Port, l.Service)
		if l.called() != l.Port {
			fmt.Fprintf(&b, ", which the platform calls at port %d", l.called())
		}
		b.WriteString("\n")
	}
	return b.String()
}

// about tells what an operator has to know of the addresses.
func (p *plan) about() (sections []string) {
	if p.proxied() {
		sections = append(sections, fmt.Sprintf("network.proxy is %s: the connections that callbackd sees come from network.trusted_proxies, so those are\n"+
			"admitted to it. Whom they let in is theirs to decide: have them, or what guards them, admit network.allow alone.\n", p.network.Proxy))
	}
	if slices.ContainsFunc(p.sources(), func(s source) bool { return s.label == published }) {
		sections = append(sections, "The addresses of thingspace are those that Verizon had published by 2026 for its REST sender, on the pages \"Register Callback\n"+
			"Listener\" and \"About callback services\" of thingspace.verizon.com. Those of the SOAP sender are given with a company's approval:\n"+
			"that list wins, and Verizon changes it. A newer callbackd may know newer published addresses.\n")
	}
	if p.network.Mode == auth.Observe && (!p.proxied() || len(p.front.targets) > 0) {
		sections = append(sections, "network.mode is observe, to learn the platform's addresses. Behind these rules no others are seen: learn first, load then.\n")
	}
	return sections
}

// sources are all that the rules name.
func (p *plan) sources() []source {
	var list []source
	for _, g := range []gate{p.receiver, p.front} {
		if len(g.targets) > 0 {
			list = append(list, g.sources...)
		}
	}
	return list
}

func usage(format Format) string {
	const again = "When the list changes, change the configuration, render again and "
	switch format {
	case NFTables:
		return again + "load again: the new table takes the place of the old in one step.\n" +
			"  check: nft -c -f FILE     load: nft -f FILE     take back: nft delete table inet callbackd\n" +
			"Connections from elsewhere are dropped; where another table drops by default, these have to be accepted there as well.\n"
	case IPTables:
		return again + "load again: the new rules take the place of the old in one step.\n" +
			"  load: iptables-restore --noflush FILE && ip6tables-restore --noflush FILE\n" +
			"After a boot, load again. Lead to them what comes in, once after each boot; likewise with ip6tables:\n" +
			"  iptables -C INPUT -j CALLBACKD 2>/dev/null || iptables -I INPUT -j CALLBACKD\n" +
			"Take back: iptables -D INPUT -j CALLBACKD; likewise with ip6tables.\n"
	}
	return again + "`terraform apply`.\n" +
		"These rules admit, and refuse nobody: what is admitted by other rules of the same machine stays admitted.\n"
}

// printable keeps a name within its comment.
func printable(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// writeList writes sources one to a line, each followed by end, under the names of what they come from.
func writeList(b *strings.Builder, indent string, sources []source, line func(source) string) {
	for i, s := range sources {
		if i == 0 || sources[i-1].label != s.label {
			fmt.Fprintf(b, "%s# %s\n", indent, s.label)
		}
		fmt.Fprintf(b, "%s%s\n", indent, line(s))
	}
}
