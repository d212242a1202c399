package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"forkproof/internal/doctor"
)

func doctorCommand(stdout io.Writer) *cobra.Command {
	var format, standIn string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what forkproof can do here, what is missing, and what to run instead",
		Long: `doctor tries on a process that it starts for the purpose what inspect does to others, and reads one process
of another user. It says what works, what is missing and what to run instead. It stops and changes nobody.

Exit status: 0 inspect can work here, 2 wrong usage, 3 it cannot.`,
		Example: `  forkproof doctor
  sudo forkproof doctor --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			exe, err := os.Executable()
			if err != nil {
				return blind(fmt.Errorf("find the program of forkproof itself: %w", err))
			}
			self := []string{exe, "doctor", "--stand-in"}
			if standIn != "" {
				if err := doctor.StandIn(standIn, self); err != nil {
					return blind(err)
				}
				return nil
			}
			if format != "text" && format != "json" {
				return usage("--format %q is not one of text, json", format)
			}
			r, err := doctor.Run(cmd.Context(), doctor.Request{Self: self})
			if err != nil {
				return blind(err)
			}
			r.Version = Version
			var b bytes.Buffer
			if format == "json" {
				e := json.NewEncoder(&b)
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				err = e.Encode(r)
			} else {
				writeDoctor(&b, r)
			}
			if err == nil {
				_, err = stdout.Write(b.Bytes())
			}
			if err != nil {
				return blind(fmt.Errorf("write the report: %w", err))
			}
			if !r.Works("inspect") {
				return &status{code: exitBlind}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "what to write: text, json")
	cmd.Flags().StringVar(&standIn, "stand-in", "", "be the process that things are tried on")
	_ = cmd.Flags().MarkHidden("stand-in")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// writeDoctor writes the verdict first, then each check, what is missing with
// what to do about it.
func writeDoctor(w io.Writer, r *doctor.Report) {
	for _, a := range r.Commands {
		name := strings.ToUpper(a.Command)
		switch {
		case a.Works && a.Run == "":
			fmt.Fprintf(w, "%s WORKS HERE, on %s\n", name, a.On)
		case a.Works:
			fmt.Fprintf(w, "%s WORKS HERE, on %s\n  for more: %s\n", name, a.On, harmless(a.Run))
		default:
			fmt.Fprintf(w, "%s CANNOT WORK HERE: %s missing\n  run instead: %s\n", name, strings.Join(a.Missing, ", "), harmless(a.Run))
		}
	}
	fmt.Fprintf(w, "\nLinux %s on %s, user %d\n", harmless(r.Kernel), r.Arch, r.User)
	for _, c := range r.Checks {
		fmt.Fprintf(w, "%-8s %s: %s\n", c.State, c.Name, harmless(c.Found))
		if c.Without != "" {
			fmt.Fprintf(w, "         so: %s\n", harmless(c.Without))
		}
		if c.Do != "" {
			fmt.Fprintf(w, "         do: %s\n", harmless(c.Do))
		}
	}
}
