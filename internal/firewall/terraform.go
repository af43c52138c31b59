package firewall

import (
	"fmt"
	"strings"
)

// place is where rules of a cloud are attached.
type place struct {
	name, what string
	gate       gate
}

// places are those that somebody has to be let in at. Where the proxies are on the machine itself, the receiver is not one.
func (p *plan) places() []place {
	var list []place
	for _, at := range []place{{"callbackd", "the machine that callbackd runs on", p.receiver}, {"callbackd_front", "what stands in front of callbackd", p.front}} {
		if len(at.gate.targets) > 0 && len(at.gate.sources) > 0 {
			list = append(list, at)
		}
	}
	return list
}

const awsVariable = `variable "callbackd_vpc_id" {
  description = "The VPC of the security groups"
  type        = string
}
`

const awsGroup = `
# Attach it to %s, beside the groups that it has.
resource "aws_security_group" "%s" {
  name        = "%s"
  description = "ThingSpace callbacks, to %s"
  vpc_id      = var.callbackd_vpc_id
}
`

// A rule is named by its place in the list of port ranges, for then a range that grows is changed in place.
const awsRule = `
resource "aws_vpc_security_group_ingress_rule" "%s_%d_ipv%d" {
  for_each = toset(local.%s_ipv%d)

  security_group_id = aws_security_group.%s.id
  cidr_ipv%d         = each.value
  ip_protocol       = "tcp"
  from_port         = %d
  to_port           = %d
}
`

// writeAWS writes a security group for each place, with one rule for each source and range of ports.
func writeAWS(b *strings.Builder, p *plan) {
	b.WriteString("# A security group takes 60 rules of each IP version, unless the quota is raised; each address makes one for each range of ports.\n\n")
	b.WriteString(awsVariable)
	for _, at := range p.places() {
		dashed := strings.ReplaceAll(at.name, "_", "-")
		fmt.Fprintf(b, awsGroup, at.what, at.name, dashed, at.what)
		for _, version := range []int{4, 6} {
			sources := at.gate.family(version == 4)
			if len(sources) == 0 {
				continue
			}
			fmt.Fprintf(b, "\nlocals {\n  %s_ipv%d = [\n", at.name, version)
			writeList(b, "    ", sources, quoted)
			b.WriteString("  ]\n}\n")
			for i, r := range at.gate.allPorts() {
				fmt.Fprintf(b, awsRule, at.name, i+1, version, at.name, version, at.name, version, r.first, r.last)
			}
		}
	}
}

const gcpVariable = `variable "callbackd_network" {
  description = "The name or self link of the VPC network"
  type        = string
}
`

const gcpRule = `
# Give %s the network tag %s.
resource "google_compute_firewall" "%s_ipv%d" {
  name        = "%s-ipv%d"
  description = "ThingSpace callbacks, to %s"
  network     = var.callbackd_network
  direction   = "INGRESS"
  target_tags = ["%s"]

  source_ranges = [
`

// writeGCP writes a rule for each place and IP version, which GCP does not let share one.
func writeGCP(b *strings.Builder, p *plan) {
	if len(p.front.targets) > 0 {
		b.WriteString("# A load balancer of Google's that ends connections itself heeds no firewall rules: give these addresses to Cloud Armor there.\n\n")
	}
	b.WriteString(gcpVariable)
	for _, at := range p.places() {
		dashed := strings.ReplaceAll(at.name, "_", "-")
		for _, version := range []int{4, 6} {
			sources := at.gate.family(version == 4)
			if len(sources) == 0 {
				continue
			}
			fmt.Fprintf(b, gcpRule, at.what, dashed, at.name, version, dashed, version, at.what, dashed)
			writeList(b, "    ", sources, quoted)
			fmt.Fprintf(b, "  ]\n\n  allow {\n    protocol = \"tcp\"\n    ports    = [\"%s\"]\n  }\n}\n",
				joinPorts(at.gate.allPorts(), "-", `", "`))
		}
	}
}

func quoted(s source) string { return fmt.Sprintf("%q,", s.prefix.String()) }
