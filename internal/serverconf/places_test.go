package serverconf

import (
	"fmt"
	"strings"
	"testing"
)

// TestCommands reads commands as they stand in the files of deployments.
func TestCommands(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"Procfile", "web: gunicorn --preload -w 4 app:app --log-file -\nworker: celery -A proj worker -l info -c 4\n", "1 gunicorn app=app:app preload=yes|2 celery app=proj preload=yes"},
		{"Procfile", "web: cd backend && PYTHONPATH=src gunicorn 'app:create_app()' -c gunicorn.conf.py\n# web: gunicorn x:y\n", "1 gunicorn app=app:create_app() preload=not known config=gunicorn.conf.py dir=backend paths=src"},
		{"Procfile", "release: python manage.py migrate\nweb: newrelic-admin run-program gunicorn wsgi --bind 0.0.0.0:$PORT --workers ${WEB_CONCURRENCY:-3}\n", "2 gunicorn app=wsgi preload=not known"},
		{"Procfile", "worker: celery --app=proj.celery:app worker --pool=threads\nbeat: celery -A proj beat\n", "1 celery app=proj.celery:app preload=yes single"},
		{"Dockerfile", "FROM python:3.12\nENV GUNICORN_CMD_ARGS=\"--preload --workers=3\"\nCMD [\"gunicorn\", \"-b\", \":80\", \"app.main:app\"]\n", "3 gunicorn app=app.main:app preload=yes"},
		{"Dockerfile", "FROM python AS build\nENV GUNICORN_CMD_ARGS=--preload\nFROM python\nCMD exec gunicorn \\\n  --bind :$PORT \\\n  main:app\n", "4 gunicorn app=main:app preload=not known"},
		{"Dockerfile", "FROM x\nENTRYPOINT [\"/usr/bin/tini\", \"--\"]\nCMD [\"python\", \"-m\", \"gunicorn\", \"a:b\", \"--preload\"]\n", "3 gunicorn app=a:b preload=yes"},
		{"Dockerfile", "FROM x\nENTRYPOINT [\"./entry.sh\"]\nCMD [\"gunicorn\", \"a:b\"]\n", "3 gunicorn app=a:b preload=not known"},
		{"Dockerfile", "FROM x\nENTRYPOINT [\"gunicorn\", \"--preload\"]\nCMD [\"a:b\"]\n", "3 gunicorn app=a:b preload=yes"},
		{"Dockerfile", "FROM x\nCMD [\"sh\", \"-c\", \"python manage.py migrate && exec gunicorn proj.wsgi:application --preload\"]\n", "2 gunicorn app=proj.wsgi:application preload=yes"},
		{"docker-compose.yml", "services:\n  web:\n    build: .\n    command: gunicorn app:app --preload\n    environment:\n      - A=1\n  worker:\n    command: [\"celery\", \"-A\", \"tasks\", \"worker\"]\n    working_dir: /srv\n",
			"4 gunicorn app=app:app preload=yes|8 celery app=tasks preload=yes dir=/srv"},
		{"deploy.yaml", "apiVersion: v1\nkind: ConfigMap\n---\nkind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n        - name: web\n          command: [\"gunicorn\"]\n          args:\n            - app:app\n            - --preload\n          env:\n            - name: GUNICORN_CMD_ARGS\n              value: \"--threads 4\"\n",
			"10 gunicorn app=app:app preload=yes threads=4"},
		{"app.service", "[Service]\nWorkingDirectory=/srv/app\nEnvironment=\"GUNICORN_CMD_ARGS=--preload\" X=1\nExecStart=/srv/venv/bin/gunicorn --workers 3 \\\n    app:create_app()\n", "4 gunicorn app=app:create_app() preload=yes dir=/srv/app"},
		{"supervisord.ini", "[program:web]\ncommand = /venv/bin/gunicorn app:app --preload\n", "2 gunicorn app=app:app preload=yes"},
		{"uwsgi.ini", "[uwsgi]\nbase = /srv\nchdir = %(base)/app\nmodule = app:app\nmaster = true\nprocesses = 4\nenable-threads = true\n", "1 uwsgi app=app:app preload=yes dir=/srv/app threads hazards=1"},
		{"uwsgi.ini", "[uwsgi]\nwsgi-file = app.py\ncallable = application\nworkers = 4\nlazy-apps = true\nthreads = 2\n", "1 uwsgi app=app.py:application preload=no threads=2"},
		{"uwsgi.ini", "; x\n[other]\nmodule = a\n[uwsgi]\nmodule = b\n", "4 uwsgi app=b preload=yes single"},
		{"uwsgi.yaml", "uwsgi:\n  module: app:app\n  master: 1\n  enable-threads: true\n  py-call-uwsgi-fork-hooks: true\n  pythonpath: [a, b]\n", "2 uwsgi app=app:app preload=yes paths=a,b threads"},
		{"start.sh", "#!/bin/sh\nset -e\nexport GUNICORN_CMD_ARGS='--preload'\nexec gunicorn app:app\n", "4 gunicorn app=app:app preload=yes"},
		{"start.sh", "uwsgi --http :80 --module app:app -p 4 --lazy-apps\n", "1 uwsgi app=app:app preload=no"},
		{"puma.rb", "workers 2\npreload_app!\nthreads 1, 5\nbefore_fork do\n  x\nend\n", "1 puma preload=yes threads=1,5"},
		{"puma.rb", "workers ENV.fetch('N') { 2 }\npreload_app! if ENV['X']\n", "1 puma preload=not known"},
		{"puma.rb", "workers 2\nfork_worker\npreload_app! # always\n", "1 puma preload=yes hazards=2"},
		{"puma.rb", "=begin\nworkers 2\n=end\nport 3000\n", "1 puma preload=not known single"},
		{"php-fpm.conf", "[www]\npm = dynamic\nphp_admin_value[opcache.preload] = /srv/preload.php\nextension=grpc.so\n", "1 php-fpm preload=yes hazards=1"},
		{"notes.yml", "a: [1, 2\n", ""},
		{"ci.yml", "jobs:\n  x:\n    steps:\n      - run: pip install gunicorn\n        command: echo gunicorn\n", ""},
	} {
		var got []string
		for _, s := range Commands(Kind(tt.name), tt.src, tt.name) {
			line := fmt.Sprintf("%d %s", s.Line, s.Kind)
			if s.App != "" {
				line += " app=" + s.App
			}
			line += " preload=" + s.Preload.String()
			if s.Config != "" {
				line += " config=" + s.Config
			}
			if s.Dir != "" {
				line += " dir=" + s.Dir
			}
			if len(s.Paths) > 0 {
				line += " paths=" + strings.Join(s.Paths, ",")
			}
			if v, ok := s.Settings["threads"]; ok {
				line += " threads=" + v.Value
			} else if s.Has("enable-threads") {
				line += " threads"
			}
			if !s.Forks {
				line += " single"
			}
			if len(s.Hazards) > 0 {
				line += fmt.Sprintf(" hazards=%d", len(s.Hazards))
			}
			got = append(got, line)
		}
		if strings.Join(got, "|") != tt.want {
			t.Errorf("%s: %q\n got  %s\n want %s", tt.name, tt.src, strings.Join(got, "|"), tt.want)
		}
	}
}

func FuzzCommands(f *testing.F) {
	f.Add("yaml", "a: &a [*a]\ncommand: gunicorn 'x\n")
	f.Add("dockerfile", "CMD [\"gunicorn\", \"\\\nENV A=\"${B:-c}")
	f.Add("systemd", "ExecStart=env env env sh -c 'gunicorn --preload'")
	f.Add("ini", "[uwsgi]\na = %(a)%(a)\nb=%(a)%(a)\n")
	f.Add("puma", "workers\npreload_app! if\n  end\n=begin")
	f.Fuzz(func(t *testing.T, kind, src string) {
		for _, s := range Commands(kind, src, "x") {
			if s.Kind == "" || s.Line < 1 {
				t.Errorf("a server without kind or line: %+v", s)
			}
		}
	})
}
