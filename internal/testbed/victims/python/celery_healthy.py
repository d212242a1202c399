"""Nothing wrong: a Celery application with its broker in files of VICTIM_BROKER."""
import os

import celery

folder = os.environ["VICTIM_BROKER"]
app = celery.Celery("victim", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder, "store_processed": False}
app.conf.worker_proc_alive_timeout = 3600  # 4 s by default, after which a hung child is killed
