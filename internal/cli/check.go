package cli

import (
	"errors"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"forkproof/internal/check"
)

func checkCommand(stdout io.Writer) *cobra.Command {
	var (
		req  check.Request
		pids []string
		out  reporting
	)
	cmd := &cobra.Command{
		Use:   "check [flags] [PID...]",
		Short: "Say what this libc, these libraries and these settings imply for forking",
		Long: `check says, from published facts with sources, whether malloc is usable in a worker, whether the application may be loaded
before the fork, which libraries break in a worker, and what belongs into post_fork.

Without arguments it looks at every running pre-fork server, or at the machine where none runs. What counts of a process is what
it has loaded, by its own root file system; of anything else what is installed. Images are read layer by layer without an engine;
nothing is extracted, and nothing of what is looked at is executed. No file outside of --root is read.

A fact is known or inferred, never proven: 'forkproof inspect' proves deadlocks, 'forkproof explain ID' tells more of a fact.

Exit status: 0 nothing at or above --fail-on, 1 findings at or above it, 2 wrong usage, 3 could not look.`,
		Example: `  forkproof check
  forkproof check 1234
  forkproof check --image app.tar --platform linux/arm64
  forkproof check --root /mnt/rootfs --exe /usr/bin/python3
  forkproof check --config gunicorn.conf.py --fail-on warning`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.PIDs = nil
			for _, a := range append(args, pids...) {
				pid, err := strconv.Atoi(a)
				switch {
				case positive.MatchString(a) && (err != nil || pid <= 0):
					return usage("%s is out of the range of PIDs", a)
				case err != nil || pid <= 0:
					return usage("%q is not a PID; for a program say --exe, for a folder --root, for an image --image", a)
				}
				req.PIDs = append(req.PIDs, pid)
			}
			to, err := out.prepare()
			if err != nil {
				return err
			}
			doc, err := check.Run(cmd.Context(), req)
			if errors.Is(err, check.ErrUsage) {
				return &status{exitUsage, err}
			}
			if err != nil {
				return blind(err)
			}
			return to.write(doc, stdout)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&pids, "pid", nil, "this `PID`, or the server that it belongs to (may be given again)")
	f.StringVar(&req.Exe, "exe", "", "this program `FILE` and the libraries that it needs, within --root where that is given")
	f.StringVar(&req.Root, "root", "", "the root file system in this `FOLDER`")
	f.StringVar(&req.Image, "image", "", "the container image in this `PATH`: an OCI layout folder, or a tar of docker save, podman save, skopeo")
	f.StringVar(&req.Platform, "platform", "", "of several platforms in the image this one, such as linux/arm64 (this machine's if not given)")
	f.StringVar(&req.Tag, "tag", "", "of several images in the file the one that was saved under this `NAME`")
	f.StringVar(&req.Config, "config", "", "read this gunicorn.conf.py, without running it (forkproof's own settings: FORKPROOF_CONFIG)")
	out.flags(cmd)
	return cmd
}
