package firewall_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/counterpart"
	"callbackd/internal/firewall"
)

// role makes this binary a machine of a network of its own: the receiver, or the one that calls it.
const role = "CALLBACKD_FIREWALL_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "receiver":
		err = receive(os.Args[1])
	case "caller":
		err = call(os.Stdin, os.Stdout)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// The receiver has one address of each IP version, the caller one inside network.allow and one outside.
const (
	receiver4, inside4, outside4 = "192.0.2.1", "198.51.100.7", "203.0.113.9"
	receiver6, inside6, outside6 = "2001:db8::1", "2001:db8:a::7", "2001:db8:b::9"

	guarded, lone, other = "28204", "28210", "2222" // lone is bound to receiver4; other is no callback port
)

// TestLoadedRules loads rules into a kernel, and connects through them.
func TestLoadedRules(t *testing.T) {
	t.Parallel()
	const what = "whether a kernel takes the rules, drops a source outside and admits one inside"
	for _, format := range []struct {
		name  firewall.Format
		tools []string
		own   string // makes a rule of the operator's own
		load  string // loads the file $1
		list  string // prints what is loaded
	}{
		{firewall.NFTables, []string{"nft"}, `nft add table inet operator && nft add chain inet operator input '{ type filter hook input priority 10; policy accept; }' &&
			nft add rule inet operator input tcp dport 2222 accept`, `nft -c -f "$1" && nft -f "$1"`, `nft -s list ruleset`},
		{firewall.IPTables, []string{"iptables-restore", "ip6tables-restore"},
			`iptables -A INPUT -p tcp --dport 2222 -j ACCEPT && ip6tables -P FORWARD DROP`, `
			for t in iptables ip6tables; do
				$t-restore --noflush "$1" && { $t -C INPUT -j CALLBACKD 2>/dev/null || $t -I INPUT -j CALLBACKD; } || exit 1
			done`, `iptables -S; ip6tables -S`},
	} {
		t.Run(string(format.name), func(t *testing.T) {
			t.Parallel()
			for _, tool := range append(format.tools, "ip", "sh") {
				counterpart.Program(t, tool, what)
			}
			dir := t.TempDir()
			render(t, dir, "rules", format.name, "198.51.100.0/24", "2001:db8:a::/48")
			render(t, dir, "changed", format.name, "203.0.113.9", "2001:db8:b::9")
			write(t, dir, "load", format.load)
			write(t, dir, "list", format.list)
			write(t, dir, "own", format.own)
			receiver := machine("receiver", syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET, dir)
			receiver.Env = append(receiver.Env, "XTABLES_LOCKFILE="+filepath.Join(dir, "xtables.lock")) // that of the system is for its root
			var stderr bytes.Buffer
			receiver.Stderr = &stderr
			out, err := receiver.Output()
			if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) || strings.Contains(stderr.String(), errNoNetwork.Error()) {
				counterpart.Forbidden(t, "a network of one's own with a firewall", what)
			}
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.String())
			}
			compare(t, string(out))
		})
	}
}

// reached says what connects, by what is loaded, where from, and to what.
var reached = map[string]map[string]string{
	"nothing loaded": {"inside": "28204 28210 2222", "outside": "28204 28210 2222", "itself": "28204 28210 2222"},
	"rules":          {"inside": "28204 28210 2222", "outside": "2222", "itself": "28204 28210 2222"},
	"rules again":    {"inside": "28204 28210 2222", "outside": "2222", "itself": "28204 28210 2222"},
	"changed":        {"inside": "2222", "outside": "28204 28210 2222", "itself": "28204 28210 2222"},
}

// compare holds what the receiver printed against reached. At IPv6 lone is not callbackd's, and open to all.
func compare(t *testing.T, out string) {
	t.Helper()
	got := make(map[string]string)
	for line := range strings.Lines(out) {
		key, ports, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("the receiver printed %q", line)
		}
		got[key] = ports
	}
	for stage, from := range reached {
		for who, ports := range from {
			for _, version := range []string{"IPv4", "IPv6"} {
				want := ports
				if version == "IPv6" && ports == other {
					want = lone + " " + other
				}
				if key := fmt.Sprintf("%s, %s, %s", stage, who, version); got[key] != want {
					t.Errorf("%s: reached %q, want %q", key, got[key], want)
				}
			}
		}
	}
	if got["again is the same"] != "true" {
		t.Error("rules that are loaded twice are not what they were")
	}
	if got["lost"] != "0" {
		t.Errorf("%s lines of what the operator had are lost", got["lost"])
	}
}

func render(t *testing.T, dir, name string, format firewall.Format, allow ...string) {
	t.Helper()
	text, err := firewall.Render(format, firewall.Config{
		File: "callbackd.yaml", Network: auth.Config{Mode: auth.Enforce, Allow: allow},
		Listeners: []firewall.Listener{{Service: "DeviceUsage", Host: "0.0.0.0", Port: 28204}, {Service: "AlertService", Host: receiver4, Port: 28210}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name, text)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// machine is this binary in namespaces of its own, within which it is root.
func machine(as string, namespaces uintptr, args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), role+"="+as)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	if namespaces&syscall.CLONE_NEWUSER != 0 {
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return c
}

// errNoNetwork is a kernel that gives no pair of network interfaces, or no firewall at all.
var errNoNetwork = errors.New("no virtual network with a firewall")

// receive is the receiver: it connects itself to a caller, loads what is in dir, and prints who reaches what.
func receive(dir string) error {
	caller := machine("caller", syscall.CLONE_NEWNET)
	caller.Stderr = os.Stderr
	in, err := caller.StdinPipe()
	if err != nil {
		return err
	}
	out, err := caller.StdoutPipe()
	if err != nil {
		return err
	}
	if err := caller.Start(); err != nil {
		return fmt.Errorf("%w: %w", errNoNetwork, err)
	}
	err = errors.Join(connect(caller.Process.Pid), measure(dir, in, bufio.NewScanner(out)), in.Close())
	return errors.Join(err, caller.Wait())
}

// connect lays a cable from here to the caller, who does the same at its end.
func connect(pid int) error {
	if err := sh(`ip link set lo up && ip link add name here type veth peer name there && ip link set there netns "$1"`, fmt.Sprint(pid)); err != nil {
		return fmt.Errorf("%w: %w", errNoNetwork, err)
	}
	return sh(`ip addr add "$1/32" dev here && ip -6 addr add "$2/128" dev here nodad && ip link set here up &&
		for to in "$3" "$4"; do ip route add "$to/32" dev here; done && for to in "$5" "$6"; do ip -6 route add "$to/128" dev here; done`,
		receiver4, receiver6, inside4, outside4, inside6, outside6)
}

// measure prints who reaches what: with nothing loaded, with the rules, with the rules loaded again, and with changed ones.
func measure(dir string, in io.Writer, out *bufio.Scanner) error {
	for _, port := range []string{guarded, lone, other} {
		l, err := net.Listen("tcp", net.JoinHostPort("", port))
		if err != nil {
			return err
		}
		defer l.Close()
	}
	if err := sh(`sh "$1/own"`, dir); err != nil {
		return fmt.Errorf("%w: %w", errNoNetwork, err)
	}
	var listed []string
	for _, stage := range []struct{ name, file string }{{"nothing loaded", ""}, {"rules", "rules"}, {"rules again", "rules"}, {"changed", "changed"}} {
		if stage.file != "" {
			if err := sh(`sh "$1/load" "$1/$2"`, dir, stage.file); err != nil {
				return err
			}
		}
		list, err := exec.Command("sh", filepath.Join(dir, "list")).Output()
		if err != nil {
			return err
		}
		listed = append(listed, string(list))
		if _, err := fmt.Fprintln(in, stage.name); err != nil {
			return err
		}
		for range 4 {
			if !out.Scan() {
				return fmt.Errorf("the caller has ended: %w", out.Err())
			}
			fmt.Println(out.Text())
		}
		fmt.Printf("%s, itself, IPv4: %s\n", stage.name, reaches(receiver4, receiver4))
		fmt.Printf("%s, itself, IPv6: %s\n", stage.name, reaches(receiver6, receiver6))
	}
	lost := 0
	for line := range strings.Lines(listed[0]) {
		if !strings.Contains(listed[3], line) {
			lost++
		}
	}
	fmt.Printf("lost: %d\n", lost)
	fmt.Printf("again is the same: %t\n", listed[1] == listed[2] && listed[1] != listed[0])
	return nil
}

// call is the caller: for each line that it reads it prints four.
func call(in io.Reader, out io.Writer) error {
	lines, ready := bufio.NewScanner(in), false
	for lines.Scan() {
		if !ready {
			ready = true
			if err := sh(`for a in "$1" "$2"; do ip addr add "$a/32" dev there; done && for a in "$3" "$4"; do ip -6 addr add "$a/128" dev there nodad; done &&
				ip link set there up && ip route add "$5/32" dev there && ip -6 route add "$6/128" dev there`,
				inside4, outside4, inside6, outside6, receiver4, receiver6); err != nil {
				return err
			}
		}
		pairs := [][2]string{{inside4, receiver4}, {outside4, receiver4}, {inside6, receiver6}, {outside6, receiver6}}
		ports := together(pairs, func(pair [2]string) string { return reaches(pair[0], pair[1]) })
		for i, who := range []string{"inside, IPv4", "outside, IPv4", "inside, IPv6", "outside, IPv6"} {
			if _, err := fmt.Fprintf(out, "%s, %s: %s\n", lines.Text(), who, ports[i]); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// reaches lists the ports that a connection from an address gets through to. What is dropped gives no answer, so that time has to tell.
func reaches(from, to string) string {
	answers := together([]string{guarded, lone, other}, func(port string) string {
		d := net.Dialer{Timeout: 1500 * time.Millisecond, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
		c, err := d.Dial("tcp", net.JoinHostPort(to, port))
		switch {
		case os.IsTimeout(err):
			return ""
		case err != nil:
			return err.Error()
		}
		_ = c.Close()
		return port
	})
	return strings.Join(slices.DeleteFunc(answers, func(answer string) bool { return answer == "" }), " ")
}

// together does the same to all at once, and returns the answers in order.
func together[T any](list []T, do func(T) string) []string {
	answers := make([]string, len(list))
	var wait sync.WaitGroup
	for i, v := range list {
		wait.Go(func() { answers[i] = do(v) })
	}
	wait.Wait()
	return answers
}

func sh(script string, args ...string) error {
	out, err := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
