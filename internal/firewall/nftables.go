package firewall

import (
	"fmt"
	"strings"
)

// writeNFTables writes a table of callbackd's own. It is named, deleted and made within one transaction, whether or not there was one.
func writeNFTables(b *strings.Builder, p *plan) {
	b.WriteString("table inet callbackd\ndelete table inet callbackd\n\ntable inet callbackd {\n")
	writeSet(b, "sources4", "ipv4_addr", p.receiver.family(true))
	writeSet(b, "sources6", "ipv6_addr", p.receiver.family(false))
	b.WriteString("\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t\tiif \"lo\" accept\n")
	for _, d := range p.receiver.targets {
		at := ""
		if d.addr.Is4() {
			at = fmt.Sprintf("ip daddr %s ", d.addr)
		} else if d.addr.IsValid() {
			at = fmt.Sprintf("ip6 daddr %s ", d.addr)
		}
		fmt.Fprintf(b, "\t\t%stcp dport { %s } jump callbacks\n", at, joinPorts(d.ports, "-", ", "))
	}
	// Only what would open a connection is dropped: one that is open, and one that this machine opened from such a port, go on.
	b.WriteString("\t}\n\n\tchain callbacks {\n\t\tip saddr @sources4 accept\n\t\tip6 saddr @sources6 accept\n" +
		"\t\ttcp flags & (fin | syn | rst | ack) == syn counter drop\n\t}\n}\n")
}

func writeSet(b *strings.Builder, name, kind string, sources []source) {
	fmt.Fprintf(b, "\tset %s {\n\t\ttype %s\n\t\tflags interval\n", name, kind)
	if len(sources) > 0 {
		b.WriteString("\t\telements = {\n")
		writeList(b, "\t\t\t", sources, func(s source) string { return plainPrefix(s) + "," })
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n\n")
}

// plainPrefix leaves out the length of a single address.
func plainPrefix(s source) string {
	if s.prefix.IsSingleIP() {
		return s.prefix.Addr().String()
	}
	return s.prefix.String()
}

func joinPorts(ports []portRange, within, between string) string {
	var words []string
	for _, r := range ports {
		words = append(words, r.text(within))
	}
	return strings.Join(words, between)
}
