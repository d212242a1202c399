package forkserver

import (
	"regexp"
	"strings"

	"forkproof/internal/proc"
)

var phpfpmName = regexp.MustCompile(`^php-fpm[0-9.]*$`)

// phpfpm recognises php-fpm: "php-fpm: master process (/path/php-fpm.conf)" and
// "php-fpm: pool NAME" (sapi/fpm/fpm/fpm_env.c and fpm_children.c).
func phpfpm() Recogniser {
	return Recogniser{
		Kind: PHPFPM,
		Match: func(p *Process) bool {
			return strings.HasPrefix(p.title(), "php-fpm: ") || phpfpmName.MatchString(p.exeBase())
		},
		Title: func(p *Process) string {
			if t, ok := strings.CutPrefix(p.title(), "php-fpm: "); ok {
				return shortTitle(t)
			}
			return string(Worker)
		},
		Describe: func(_ proc.FS, s *Server) { s.Name = "php-fpm" },
		Traits: Traits{
			KillSetting:   "request_terminate_timeout",
			RestartWorker: "kill -KILL WORKER",
			RestartAll:    "kill -USR2 MASTER",
			Notes: []string{
				"extensions and opcache.preload run in the master; the master forks new processes as long as it lives (pm = dynamic or ondemand)",
			},
			Sources: []string{
				"php-src sapi/fpm/fpm/fpm_children.c, fpm_children_make",
				"https://www.php.net/manual/en/install.fpm.configuration.php",
			},
		},
	}
}
