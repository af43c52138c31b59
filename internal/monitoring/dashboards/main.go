// Command dashboards writes the dashboards of Grafana for callbackd, each a JSON file, into the folder that it is told: the one argument.
// What they show is in overview.go and the files beside it; panel.go says how a panel looks.
package main

//go:generate go run . ../../../deploy/grafana

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func write(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: dashboards FOLDER")
	}
	for _, b := range []board{overview(), pipeline(), platform(), process()} {
		built, err := b.build()
		if err != nil {
			return fmt.Errorf("build %s: %w", b.uid, err)
		}
		text, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			return fmt.Errorf("encode %s: %w", b.uid, err)
		}
		if err := os.WriteFile(filepath.Join(args[0], b.uid+".json"), append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}
