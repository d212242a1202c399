package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// systemConfig is read before the user's own file.
const systemConfig = "/etc/forkproof/config.toml"

// maxConfig bounds a config file, in bytes.
const maxConfig = 1 << 20

// setting is one flag of a command with its value and where that came from.
type setting struct {
	flag *pflag.Flag
	from string
}

// settle gives each flag of a command its value, the strongest source first: the
// command line, the environment, the user's config file, the system's, the
// default. It returns where each came from.
func settle(cmd *cobra.Command) ([]setting, error) {
	files, err := configFiles(cmd)
	if err != nil {
		return nil, err
	}
	var out []setting
	flags := cmd.Flags()
	flags.AddFlagSet(cmd.InheritedFlags())
	flags.VisitAll(func(f *pflag.Flag) {
		if err != nil || !settable(f) {
			return
		}
		s := setting{flag: f, from: "default"}
		switch v, ok := os.LookupEnv(variable(f.Name)); {
		case f.Changed:
			s.from = "command line"
		case ok && v != "":
			s.from = "environment variable " + variable(f.Name)
			err = assign(flags, f, s.from, []string{v})
		default:
			for _, c := range slices.Backward(files) {
				if values, place, has := c.value(cmd.Name(), f.Name); has {
					s.from = place
					err = assign(flags, f, place, values)
					break
				}
			}
		}
		out = append(out, s)
	})
	return out, err
}

// assign sets a flag from elsewhere than the command line. A list is replaced.
func assign(flags *pflag.FlagSet, f *pflag.Flag, from string, values []string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		if err := list.Replace(values); err != nil {
			return usage("%s: %w", from, err)
		}
		f.Changed = true
		return nil
	}
	for _, v := range values {
		if err := flags.Set(f.Name, v); err != nil {
			return usage("%s: %w", from, err)
		}
	}
	return nil
}

// settable reports whether a flag may be set from elsewhere.
func settable(f *pflag.Flag) bool {
	return f.Name != "help" && f.Name != "version" && f.Name != "config" && !f.Hidden
}

func variable(flag string) string {
	return "FORKPROOF_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// configFile is one file that was read: a struct with a pointer for each key,
// which is nil where the file does not have it.
type configFile struct {
	path string
	// top has the keys that stand for all commands, tables those of one.
	top    reflect.Value
	tables map[string]reflect.Value
}

// configPaths are the files in the order in which they are read, later ones
// being stronger; must is true where they have to exist.
func configPaths(cmd *cobra.Command) (paths []string, must bool) {
	// Not cmd.Flag: check has a flag of this name for the configuration of a server.
	if f := cmd.Root().PersistentFlags().Lookup("config"); f != nil && f.Value.String() != "" {
		return []string{f.Value.String()}, true
	}
	if p := os.Getenv("FORKPROOF_CONFIG"); p != "" {
		return []string{p}, true
	}
	paths = []string{systemConfig}
	dir := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		// The XDG base directory specification says to ignore what is not absolute.
		home := os.Getenv("HOME")
		if !filepath.IsAbs(home) {
			return paths, false
		}
		dir = filepath.Join(home, ".config")
	}
	return append(paths, filepath.Join(dir, "forkproof", "config.toml")), false
}

func configFiles(cmd *cobra.Command) ([]configFile, error) {
	paths, must := configPaths(cmd)
	var out []configFile
	for _, p := range paths {
		b, err := readConfig(p)
		// A file that this user may not read is not meant for him: su and setpriv
		// leave HOME as it was.
		if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) && !must {
			continue
		}
		if err != nil {
			return nil, usage("read the config file: %w", err)
		}
		c, err := parseConfig(cmd.Root(), p, b)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func readConfig(path string) ([]byte, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, fmt.Errorf("%s is a folder", path)
	case st.Size() > maxConfig:
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that a config file may have", path, st.Size(), maxConfig)
	}
	return os.ReadFile(path)
}

// parseConfig decodes a file into a struct that has exactly the keys there are,
// so that any other key is an error with its line.
func parseConfig(root *cobra.Command, path string, b []byte) (configFile, error) {
	all := make(map[string]*pflag.Flag)
	var fields []reflect.StructField
	names := make(map[string]string)
	for i, c := range configured(root) {
		own := make(map[string]*pflag.Flag)
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if settable(f) {
				own[f.Name], all[f.Name] = f, f
			}
		})
		field := fmt.Sprintf("Table%d", i)
		names[c.Name()] = field
		fields = append(fields, reflect.StructField{Name: field, Type: structOf(own), Tag: tag(c.Name())})
	}
	top := structOf(all)
	for i := range top.NumField() {
		fields = append(fields, top.Field(i))
	}
	v := reflect.New(reflect.StructOf(fields))
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(v.Interface()); err != nil {
		return configFile{}, usage("%s%w", path, located(err))
	}
	c := configFile{path: path, top: v.Elem(), tables: make(map[string]reflect.Value)}
	for command, field := range names {
		c.tables[command] = v.Elem().FieldByName(field)
	}
	return c, nil
}

// located is an error of the decoder with its line in front, ready to stand
// behind a file's name.
func located(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		first := strict.Errors[0]
		line, _ := first.Position()
		return fmt.Errorf(":%d: %q is not a setting; 'forkproof config show' lists them", line, strings.Join(first.Key(), "."))
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		return fmt.Errorf(":%d: %s", line, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	return fmt.Errorf(": %w", err)
}

// configured are the commands that have settings.
func configured(root *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, c := range root.Commands() {
		if !offline(c) && c.Runnable() && !c.Hidden {
			out = append(out, c)
		}
	}
	return out
}

func structOf(flags map[string]*pflag.Flag) reflect.Type {
	var names []string
	for n := range flags {
		names = append(names, n)
	}
	slices.Sort(names)
	var fields []reflect.StructField
	for _, n := range names {
		var typ reflect.Type
		switch flags[n].Value.Type() {
		case "bool":
			typ = reflect.TypeFor[*bool]()
		case "int":
			typ = reflect.TypeFor[*int64]()
		case "stringArray", "stringSlice":
			typ = reflect.TypeFor[*[]string]()
		default:
			typ = reflect.TypeFor[*string]()
		}
		fields = append(fields, reflect.StructField{Name: fieldName(n), Type: typ, Tag: tag(n)})
	}
	return reflect.StructOf(fields)
}

func tag(key string) reflect.StructTag { return reflect.StructTag(fmt.Sprintf("toml:%q", key)) }

func fieldName(flag string) string { return "Flag_" + strings.ReplaceAll(flag, "-", "_") }

// value is what a file says of one flag of a command, its own table first.
func (c configFile) value(command, flag string) (values []string, place string, has bool) {
	table, known := c.tables[command]
	if known {
		if v, has := text(table.FieldByName(fieldName(flag))); has {
			return v, fmt.Sprintf("%s, %s in [%s]", c.path, flag, command), true
		}
		if v, has := text(c.top.FieldByName(fieldName(flag))); has {
			return v, fmt.Sprintf("%s, %s", c.path, flag), true
		}
	}
	return nil, "", false
}

func text(v reflect.Value) ([]string, bool) {
	if !v.IsValid() || v.IsNil() {
		return nil, false
	}
	if list, ok := v.Elem().Interface().([]string); ok {
		return list, true
	}
	return []string{fmt.Sprint(v.Elem().Interface())}, true
}
