package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version that is being worked on, or was released.
const release = "0.1"

// version returns what this program was built from: the release and the commit, "0.1.ab41cde", with "+CHANGES" when the tree
// had changes that no commit holds. A build without version control says "0.1.unknown".
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versionOf(nil)
	}
	return versionOf(info.Settings)
}

func versionOf(build []debug.BuildSetting) string {
	revision, changes := "unknown", ""
	for _, s := range build {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 7:
			revision = s.Value[:7]
		case s.Key == "vcs.modified" && s.Value == "true":
			changes = "+CHANGES"
		}
	}
	return release + "." + revision + changes
}

func newVersionCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "What this program was built from",
		Long:    `Prints {"Version":"…"}, as /version does. The version ends with +CHANGES when the tree had changes that no commit holds.`,
		Example: `  signalbox version`,
		GroupID: groupOperate,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := json.Marshal(struct{ Version string }{version()})
			if err != nil {
				return fmt.Errorf("printing the version: %w", err)
			}
			fmt.Fprintf(p.stdout, "%s\n", b)
			return nil
		},
	}
}
