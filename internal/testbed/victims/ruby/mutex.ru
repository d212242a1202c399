# A thread holds a Mutex when the master forks, and each request wants it.
# Shows: Ruby gives up the mutexes of vanished threads in the child
# (thread_sync.c, rb_mutex_abandon_all), so that this is healthy.
lock = Mutex.new
held = Queue.new
Thread.new { lock.synchronize { held << true; sleep } }
held.pop
run ->(_env) { lock.synchronize { [200, { "content-type" => "text/plain" }, ["ok\n"]] } }
