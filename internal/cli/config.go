package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func configCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the settings and where each comes from",
		Long: `Settings come from, the strongest first: the command line, environment variables (FORKPROOF_FAIL_ON for
--fail-on), $XDG_CONFIG_HOME/forkproof/config.toml (or ~/.config/forkproof/config.toml) and
/etc/forkproof/config.toml. --config FILE, or FORKPROOF_CONFIG, is read instead of both files.

A key has the name of its flag. At the top of the file it is meant for every command that has such a flag,
in a table with the name of a command for that one. A key that nothing knows is an error.`,
		Example: `  # /etc/forkproof/config.toml
  fail-on = "warning"

  [inspect]
  format = "json"
  name = ["gunicorn", "uwsgi"]`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return usage("say what to do: forkproof config show") },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "show",
		Short: "Print every setting, and where its value comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var b strings.Builder
			paths, _ := configPaths(cmd)
			for _, p := range paths {
				state := "read"
				if _, err := os.ReadFile(p); errors.Is(err, fs.ErrNotExist) {
					state = "not there"
				} else if err != nil {
					state = "left out: it cannot be read"
				}
				fmt.Fprintf(&b, "# %s: %s\n", p, state)
			}
			for _, c := range configured(cmd.Root()) {
				if f := c.Flag("config"); f != nil && cmd.Flag("config").Changed && !f.Changed {
					_ = f.Value.Set(cmd.Flag("config").Value.String())
				}
				settings, err := settle(c)
				if err != nil {
					return err
				}
				fmt.Fprintf(&b, "\n[%s]\n", c.Name())
				for _, s := range settings {
					fmt.Fprintf(&b, "%-40s # %s\n", s.flag.Name+" = "+literal(s.flag), harmless(s.from))
				}
			}
			_, err := io.WriteString(stdout, b.String())
			if err != nil {
				return blind(err)
			}
			return nil
		},
	})
	return cmd
}

// literal writes a flag's value as TOML does, so that what is shown can be put
// into a config file.
func literal(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool", "int":
		return f.Value.String()
	case "stringArray", "stringSlice":
		var items []string
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, s := range list.GetSlice() {
				items = append(items, quoted(s))
			}
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return quoted(f.Value.String())
}

// quoted writes a TOML string: as it is where it needs no escapes, so that
// patterns stay readable.
func quoted(s string) string {
	if strings.Contains(s, `\`) && !strings.Contains(s, "'") && harmless(s) == s {
		return "'" + s + "'"
	}
	return strconv.QuoteToASCII(harmless(s))
}
