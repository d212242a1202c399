/** The main thread waits for another to end, which sleeps. Shows: nothing wrong. */
public class Idle {
    public static void main(String[] args) throws Exception {
        Thread sleeper = new Thread(() -> {
            try {
                Thread.sleep(Long.MAX_VALUE);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }, "sleeper");
        sleeper.start();
        System.out.println("ready");
        System.out.flush();
        if (args.length > 0) {
            Object never = new Object();
            synchronized (never) {
                never.wait();
            }
        }
        sleeper.join();
    }
}
