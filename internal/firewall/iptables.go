package firewall

import (
	"fmt"
	"slices"
	"strings"
)

// writeIPTables writes two chains of callbackd's own. Naming a chain empties it, and nothing else is emptied with --noflush. A line with
// -4 is passed over by ip6tables-restore, one with -6 by iptables-restore, so that one file does for both.
func writeIPTables(b *strings.Builder, p *plan) {
	b.WriteString("*filter\n:CALLBACKD - [0:0]\n:CALLBACKD-SOURCES - [0:0]\n-A CALLBACKD -i lo -j RETURN\n")
	for _, d := range p.receiver.targets {
		family, at := "", ""
		if d.addr.IsValid() {
			family, at = familyFlag(d.addr.Is4())+" ", fmt.Sprintf("-d %s ", d.addr)
		}
		// 15 ports are the most that one rule takes, and a range counts for two.
		for chunk := range slices.Chunk(d.ports, 7) {
			fmt.Fprintf(b, "%s-A CALLBACKD %s-p tcp -m multiport --dports %s -j CALLBACKD-SOURCES\n", family, at, joinPorts(chunk, ":", ","))
		}
	}
	writeList(b, "", p.receiver.sources, func(s source) string {
		return fmt.Sprintf("%s -A CALLBACKD-SOURCES -s %s -j ACCEPT", familyFlag(s.prefix.Addr().Is4()), plainPrefix(s))
	})
	b.WriteString("-A CALLBACKD-SOURCES -p tcp --syn -j DROP\nCOMMIT\n")
}

func familyFlag(is4 bool) string {
	if is4 {
		return "-4"
	}
	return "-6"
}
